"""Values that a process of the API remembers for seconds, so that it does not work them out for each request."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Remembered"]

LARGEST = 10_000
"""Entries of one memory: many callers, and a few megabytes."""

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Values by key, each for its own time. Beyond `LARGEST` entries the oldest are dropped."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[bytes, tuple[float, Value]] = {}

    def get(self, key: bytes) -> Value | None:
        """Return the value; None if it is not remembered, or not any more."""
        until, value = self._entries.get(key, (0.0, None))
        if value is not None and until <= self._clock():
            self._entries.pop(key, None)
            return None
        return value

    def put(self, key: bytes, value: Value, seconds: float) -> None:
        """Remember the value for these seconds."""
        self._entries.pop(key, None)  # a dictionary keeps the order of insertion
        self._entries[key] = (self._clock() + seconds, value)
        while len(self._entries) > LARGEST:
            del self._entries[next(iter(self._entries))]
