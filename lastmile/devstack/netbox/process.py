"""A process of NetBox: its server threads, its locks and its open requests."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.http.faults import Fault
from lastmile.devstack.netbox.http.http_errors import HttpError
from lastmile.devstack.netbox.http.latency import Cores, Costs
from lastmile.errors import LastmileError

__all__ = ["Process", "ProcessKilledError", "Work"]

_THREADS = 16
_CORES = 2


class ProcessKilledError(LastmileError):
    """NetBox ended while it worked on the request, without a write. The connection is closed."""


class Process:
    """The state that a restart of NetBox loses."""

    def __init__(self, store: Store, costs: Costs | None) -> None:
        self.store = store
        self.costs = costs
        self.cores = Cores(_CORES)
        self.threads = threading.BoundedSemaphore(_THREADS)
        """The limit of concurrent requests. Others wait, including `/api/status/`."""
        self.allocating = {kind: threading.Lock() for kind in ("available-prefixes", "available-ips")}
        """NetBox's advisory locks. Each lock covers every parent in every VRF."""
        self.killed = False

    def kill(self) -> None:
        """End the process. Uncommitted writes are lost."""
        with self.store.lock:
            self.killed = True


class Work:
    """The work of a process on one request."""

    def __init__(self, process: Process, fault: Fault) -> None:
        self._process = process
        self._fault = fault
        self._since = time.perf_counter()

    def spend(self, cost: Callable[[Costs], float]) -> None:
        """Take as long as a real NetBox, if latency is switched on."""
        if self._process.costs is not None:
            # The stand-in's own time counts.
            self._process.cores.work(cost(self._process.costs) - (time.perf_counter() - self._since))
        self._since = time.perf_counter()

    @contextmanager
    def allocating(self, kind: str) -> Iterator[None]:
        """Hold NetBox's lock of `available-prefixes` or `available-ips`."""
        with self._process.allocating[kind]:
            self._since = time.perf_counter()
            yield

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Run the block in a transaction. Checks before it may be out of date by then, as in NetBox.

        Raises:
            ProcessKilledError: the process has ended.
            HttpError: the error of the fault.
        """
        if self._fault.work:
            self._process.cores.work(self._fault.work)
        if self._fault.hold is not None:
            self._fault.hold()
        with self._process.store.lock:
            if self._process.killed:
                raise ProcessKilledError
            if not self._fault.committed:
                self._fail()
            with self._process.store.transaction():
                yield
        self._fail()

    def _fail(self) -> None:
        if self._fault.failure is not None:
            raise HttpError(*self._fault.failure.args)
