"""Faults between a client and the NBI, requested by a test."""

import threading
from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["NbiFault", "NbiFaults"]


class NbiFault(Enum):
    """What happens to a request."""

    WORKER_DIES = auto()
    """The NBI's worker ends before it has done anything, and another worker begins."""
    REPLY_LOST = auto()
    """GenieACS carries the request out, and the connection ends without a reply."""
    HANGS = auto()
    """GenieACS never answers, until it is stopped."""
    BAD_GATEWAY = auto()
    """A proxy answers 502."""
    OTHER_SERVER = auto()
    """Another server answers, with a page in HTML."""


@dataclass
class _Rule:
    fault: NbiFault
    method: str
    path: str
    after: int


class NbiFaults:
    """The faults of the next requests, in their order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: list[_Rule] = []

    def next(self, fault: NbiFault, *, method: str = "", path: str = "", after: int = 0) -> None:
        """Apply `fault` to the next request with this method whose path contains `path`, `after` so many of them."""
        with self._lock:
            self._next.append(_Rule(fault, method, path, after))

    def clear(self) -> bool:
        """Remove the faults that no request has met; return whether there were any."""
        with self._lock:
            left = bool(self._next)
            self._next.clear()
            return left

    def pick(self, method: str, path: str) -> NbiFault | None:
        """Return the fault of a new request."""
        with self._lock:
            for rule in self._next:
                if rule.method not in ("", method) or rule.path not in path:
                    continue
                if rule.after == 0:
                    self._next.remove(rule)
                    return rule.fault
                rule.after -= 1
        return None
