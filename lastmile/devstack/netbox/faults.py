"""What can go wrong between a client and NetBox, and inside it; asked for by a test, or at random with a seed."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from lastmile.devstack.netbox.http_errors import HttpError
from lastmile.devstack.netbox.versions import V4_4

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
    """What happens to one request. The parts can be combined; they come about in this order."""

    latency: float = 0
    """Seconds before anything is done."""
    delay: Callable[[], object] | None = None
    """Called there: to be on the way until an event is set."""
    proxy: int = 0
    """The status that a proxy answers with, without asking NetBox."""
    retry_after: int | None = None
    """Seconds, in that answer's `Retry-After`."""
    dropped: bool = False
    """The connection is closed, and nothing is done."""
    work: float = 0
    """Seconds that NetBox works longer, after its checks and before its commit."""
    hold: Callable[[], object] | None = None
    """Called there: to wait for an event or a barrier."""
    failure: HttpError | None = None
    """NetBox's own answer instead of the commit…"""
    committed: bool = False
    """… or after it."""
    lost: bool = False
    """The work is done, and the connection is closed without a reply."""
    cut: bool = False
    """The connection is closed in the middle of the reply's body."""


NO_FAULT = Fault()
LOST = Fault(lost=True)
CUT = Fault(cut=True)
DROPPED = Fault(dropped=True)


def proxy(status: int, *, retry_after: int | None = None) -> Fault:
    """The answer of a proxy in front of NetBox: 502, 503, 504 or 429."""
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
"""Redis goes away between the commit and the reply: the row exists although NetBox answers 500."""
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
    """Which requests meet which fault. What was asked for comes first, in its order; then chance."""

    def __init__(self, seed: int = 0) -> None:
        self.met: Counter[Fault] = Counter()
        """How many requests have met each fault."""
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._next: list[_Rule] = []
        self._chances: list[_Rule] = []

    def next(self, fault: Fault, *, method: str = "", path: str = "", times: int = 1) -> None:
        """The next requests of this method whose path contains `path` meet `fault`."""
        with self._lock:
            self._next += [_Rule(fault, method, path, 1)] * times

    def chance(self, fault: Fault, probability: float, *, method: str = "", path: str = "") -> None:
        """From now on such requests meet `fault` with this probability."""
        with self._lock:
            self._chances.append(_Rule(fault, method, path, probability))

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        with self._lock:
            self._next.clear()
            self._chances.clear()

    def pick(self, method: str, path: str) -> Fault:
        """What the request that has just come meets."""
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
