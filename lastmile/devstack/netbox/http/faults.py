"""Faults between a client and NetBox, and inside NetBox, requested by a test or chosen at random with a seed."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from lastmile.devstack.netbox.http.http_errors import HttpError
from lastmile.devstack.netbox.model.versions import V4_4

__all__ = [
    "CUT",
    "DROPPED",
    "LOST",
    "NO_FAULT",
    "POSTGRES_DOWN",
    "READ_ONLY",
    "REDIS_DOWN",
    "REDIS_LOST",
    "Fault",
    "Faults",
    "proxy",
]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of one request. Parts can be combined, and act in this order."""

    latency: float = 0
    """Seconds before NetBox receives the request."""
    delay: Callable[[], object] | None = None
    """A function that blocks before NetBox receives the request, for example until an event is set."""
    proxy: int = 0
    """The status with which a proxy replies, without forwarding the request to NetBox."""
    retry_after: int | None = None
    """Seconds in the header `Retry-After` of the proxy's reply."""
    dropped: bool = False
    """Whether the connection is closed before NetBox receives the request."""
    work: float = 0
    """Additional seconds of work in NetBox, after its checks and before its commit."""
    hold: Callable[[], object] | None = None
    """A function that blocks between the checks and the commit, for example at a barrier."""
    failure: HttpError | None = None
    """NetBox's error reply instead of the commit, or after the commit with `committed`."""
    committed: bool = False
    """Whether NetBox commits before it replies with `failure`."""
    lost: bool = False
    """Whether NetBox commits, but the connection is closed without a reply."""
    cut: bool = False
    """Whether the connection is closed in the middle of the reply's body."""


NO_FAULT = Fault()
LOST = Fault(lost=True)
CUT = Fault(cut=True)
DROPPED = Fault(dropped=True)


def proxy(status: int, *, retry_after: int | None = None) -> Fault:
    """Return the fault of a reply by a proxy in front of NetBox: 502, 503, 504 or 429."""
    return Fault(proxy=status, retry_after=retry_after)


def _server_error(exception: str, error: str) -> HttpError:
    versions = {"netbox_version": V4_4.number, "python_version": V4_4.python}
    return HttpError(500, {"error": error, "exception": exception, **versions})


_HTML = (
    '\n\n<!DOCTYPE html>\n<html lang="en">\n<head>\n  <title>Server Error</title>\n</head>\n'
    "<body>&lt;class &#x27;redis.exceptions.ConnectionError&#x27;&gt;</body>\n</html>\n"
)
REDIS_DOWN = Fault(failure=HttpError(500, _HTML))
REDIS_LOST = Fault(failure=HttpError(500, _HTML), committed=True)
"""Redis fails between the commit and the reply: the row exists although NetBox replies 500."""
POSTGRES_DOWN = Fault(failure=_server_error("OperationalError", "the connection is closed"))
READ_ONLY = Fault(failure=_server_error("InternalError", "cannot execute INSERT in a read-only transaction"))


@dataclass(frozen=True)
class _Rule:
    fault: Fault
    method: str
    path: str
    probability: float

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("", method) and self.path in path


class Faults:
    """The faults of requests: requested faults first, in their order, then random ones."""

    def __init__(self, seed: int = 0) -> None:
        self.met: Counter[Fault] = Counter()
        """The number of requests that had each fault."""
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._next: list[_Rule] = []
        self._chances: list[_Rule] = []

    def next(self, fault: Fault, *, method: str = "", path: str = "", times: int = 1) -> None:
        """Apply `fault` to the next requests with this method whose path contains `path`."""
        with self._lock:
            self._next += [_Rule(fault, method, path, 1)] * times

    def chance(self, fault: Fault, probability: float, *, method: str = "", path: str = "") -> None:
        """Apply `fault` to such requests with this probability from now on."""
        with self._lock:
            self._chances.append(_Rule(fault, method, path, probability))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._next.clear()
            self._chances.clear()

    def pick(self, method: str, path: str) -> Fault:
        """Return the fault of a new request."""
        with self._lock:
            for rule in self._next:
                if rule.matches(method, path):
                    self._next.remove(rule)
                    self.met[rule.fault] += 1
                    return rule.fault
            for rule in self._chances:
                if rule.matches(method, path) and self._random.random() < rule.probability:
                    self.met[rule.fault] += 1
                    return rule.fault
        return NO_FAULT
