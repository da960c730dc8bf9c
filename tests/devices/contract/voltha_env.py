"""VOLTHA with one OLT and one ONU."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from voltha_protos.common_pb2 import AdminState

from lastmile.devices.drivers import Endpoint
from lastmile.devices.voltha import driver
from lastmile.devices.voltha.options import VolthaOptions
from lastmile.devstack.voltha import VolthaServer
from tests.devices.contract.environment import ControllerEnv
from tests.devices.voltha.lines import ONU, SECOND, SETTLED, flows, line

__all__ = ["VolthaEnv"]


class VolthaEnv(ControllerEnv):
    """A core in a thread of its own, with the loop that its server needs."""

    driver = driver
    has_credentials = False

    def __init__(self) -> None:
        self.server = VolthaServer()
        self.model = self.server.model
        self.device, self.unseen = line(ONU), line(SECOND)
        self._loop = asyncio.new_event_loop()

    @contextmanager
    def controller(self) -> Iterator[VolthaServer]:
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            self._run(self.server.start())
            self.model.add_olt()
            self.model.plug_in(ONU)
            yield self.server
        finally:
            self.stop()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def endpoint(self, *, wrong_secret: bool = False) -> Endpoint:
        return Endpoint(self.server.url)

    def options(self) -> VolthaOptions:
        return VolthaOptions(settle_seconds=SETTLED)

    def stop(self) -> None:
        self._run(self.server.stop())

    def is_on(self) -> bool:
        onu = self.model.onu(ONU)
        return len(flows(self.model)) == 4 and onu.reason == "omci-flows-pushed" and len(self.model.rates) == 2

    def is_off(self) -> bool:
        return not flows(self.model) and self.model.onu(ONU).admin_state == AdminState.DISABLED

    def unplug(self) -> None:
        self.model.cut_power(ONU)

    def plug_in(self) -> None:
        self.model.restore_power(ONU)

    def lose_reply(self, after: int) -> None:
        self.model.faults.lost_reply = after

    def lost_reply(self) -> bool:
        lost = self.model.faults.lost_reply is None
        self.model.faults.lost_reply = None
        return lost

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()
