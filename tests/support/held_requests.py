"""Requests that the stand-in holds until the test resumes them, and clients that give them up."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ipam.netbox import NetBox
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import Fault
from tests.support.direct_env import AVAILABLE

__all__ = ["HeldRequest"]

CONNECT, AT_ONCE = 3, 0.2


class HeldRequest:
    """The next request of its kind, held before NetBox commits or before it arrives."""

    def __init__(
        self, server: NetBoxServer, method: str = "POST", path: str = AVAILABLE, *, before_arrival: bool = False
    ) -> None:
        self._server, self._method, self._path = server, method, path
        self._reached, self._go_on = threading.Event(), threading.Event()
        fault = Fault(delay=self._hold) if before_arrival else Fault(hold=self._hold)
        server.faults.next(fault, method=method, path=path)

    def _hold(self) -> None:
        self._reached.set()
        assert self._go_on.wait(60)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 60)

    @asynccontextmanager
    async def abandoned_by(self, netbox: NetBox) -> AsyncIterator[None]:
        """Within the block, the client gives up this kind of request. The block ends when NetBox has the request."""
        session = netbox.wire._session  # a time-out of the whole client would apply to other requests too
        patient = session.request

        def request(method: str, url: str, **options: Any) -> Any:
            if method == self._method and self._path in url:
                options["timeout"] = (CONNECT, AT_ONCE)
            return patient(method, url, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "request", request)
            yield
        await self.reached()

    def resume(self) -> None:
        self._go_on.set()

    async def done(self) -> None:
        """Resume the request, and wait until it has changed something in NetBox."""
        before = self._changes()
        self.resume()
        while True:
            if self._changes() > before:
                return
            await asyncio.sleep(0.01)

    def _changes(self) -> int:
        with self._server.store.lock:
            return len(list(self._server.store.all("core.objectchange")))
