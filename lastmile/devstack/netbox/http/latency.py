"""The cost of requests in a real NetBox 4.4 (2 × 8 gunicorn threads on 2 cores), in seconds, as data.

The form of the costs matters more than their size: a write has a cost per object, and the cost of `available-prefixes`
grows with the parent's children, most of it while NetBox holds a lock.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass

__all__ = ["MEASURED", "Cores", "Costs"]

_SLICE = 0.005


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The costs of requests in seconds of one core."""

    request: float
    """The cost of every request, such as `/api/status/`."""
    read: float
    """The additional cost of every request except `/api/status/`."""
    create: float
    """The cost of each created or changed object."""
    delete: float
    """The cost of each deleted object."""
    child: float
    """The cost of each child of the parent in `available-prefixes`."""
    gap: float
    """The cost of each free range between those children."""
    locked: float
    """The share of the cost of `available-prefixes` during which NetBox holds the lock."""
    scanned: float
    """The cost of each object that a list filters."""
    shown: float
    """The cost of each object in a list."""


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
    """The cores of a machine, shared in time slices: a short request does not wait for the end of a long one."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    def work(self, seconds: float) -> None:
        """Occupy a core for this time, in turns with other requests."""
        while seconds > 0:
            self._acquire()
            begin = time.perf_counter()
            time.sleep(min(seconds, _SLICE))
            seconds -= time.perf_counter() - begin
            self._release()

    def _acquire(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Event()
            self._waiting.append(turn)
        turn.wait()

    def _release(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
