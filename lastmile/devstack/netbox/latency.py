"""What requests cost a real NetBox 4.4 (2 × 8 gunicorn threads on 2 cores), in seconds, as data.

The shapes are what matters: a write costs per object, `available-prefixes` grows with the parent's children and holds
one lock for most of its time.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass

__all__ = ["MEASURED", "Cores", "Costs"]

_SLICE = 0.005


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of a core."""

    request: float
    """Of any request: that of `/api/status/`."""
    read: float
    """Of any other request, on top of that."""
    create: float
    """Of each object created or changed."""
    delete: float
    """Of each object deleted."""
    child: float
    """Of each child of the parent in `available-prefixes`."""
    gap: float
    """Of each free range among those children."""
    locked: float
    """The share of `available-prefixes` that holds the lock."""
    scanned: float
    """Of each object that a list is filtered from."""
    shown: float
    """Of each object in a list."""


MEASURED = Costs(
    request=0.008,
    read=0.030,
    create=0.084,
    delete=0.072,
    child=0.000_020,
    gap=0.000_034,
    locked=0.78,
    scanned=0.000_000_5,
    shown=0.000_5,
)


class Cores:
    """A machine's cores, shared fairly by whoever has work: a short request passes between slices of long ones."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    def work(self, seconds: float) -> None:
        """Be busy on a core for so long, in turns with the others."""
        while seconds > 0:
            self._take()
            begin = time.perf_counter()
            time.sleep(min(seconds, _SLICE))
            seconds -= time.perf_counter() - begin
            self._give()

    def _take(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Event()
            self._waiting.append(turn)
        turn.wait()

    def _give(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
