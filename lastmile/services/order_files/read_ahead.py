"""A reader in a thread, ahead of its consumer: a slow pipe must not stop the orders that run."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Queue
from typing import Generic, TypeVar

__all__ = ["ReadAhead"]

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Reads at most `depth` items that the consumer has not taken."""

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items = items
        self._queue: Queue[T] = Queue(depth)
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._failure: BaseException | None = None
        # A daemon thread: Ctrl-C does not wait for a silent pipe.
        threading.Thread(target=self._read, daemon=True).start()

    async def batch(self) -> list[T]:
        """Return the items that are read by now; no item at the end.

        Raises the failure of the reader after the items before it. A cancel loses no item.
        """
        while True:
            self._changed.clear()
            ended = self._ended  # before the queue is emptied: items that are read meanwhile are found below
            if items := list(self._take_queued()):
                return items
            if ended:
                if self._failure is not None:
                    raise self._failure
                return []
            await self._changed.wait()

    def _take_queued(self) -> Iterator[T]:
        for _ in range(self._queue.maxsize):
            try:
                yield self._queue.get_nowait()
            except Empty:
                return

    def _read(self) -> None:
        try:
            for item in self._items:
                self._queue.put(item)
                if not self._changed.is_set():
                    self._notify()
        except BaseException as failure:
            self._failure = failure
        self._ended = True
        self._notify()

    def _notify(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: no consumer waits any more
            self._loop.call_soon_threadsafe(self._changed.set)
