"""Rounds of the workers through devices in service, for controllers that forget what they were told.

A round names the devices, and the reconciler asks their controllers.
"""

from contextlib import suppress
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from lastmile.background import Sweeper
from lastmile.db import Database
from lastmile.devices.pending_calls import begin_check, count_checks
from lastmile.devices.records import DeviceKind
from lastmile.devices.rounds import NextDevice, take_next
from lastmile.devices.routing import Controllers
from lastmile.errors import OrderFencedError
from lastmile.services.line_devices import device_of, with_rates
from lastmile.subscribers.orders import CANCELLING_FENCE
from lastmile.subscribers.records import read_line

__all__ = ["DeviceRounds"]

INTERVAL = timedelta(seconds=5)
ROUND = timedelta(hours=1)
"""The time from the begin of a round to that of the next."""
BATCH = 64
"""The most devices that a round has named and no controller was asked for: calls of orders must not wait for them."""


class DeviceRounds(Sweeper):
    """Has controllers asked again, within `async with`, for the ONUs that they have confirmed."""

    pause, away = INTERVAL, (SQLAlchemyError, OSError, TimeoutError)
    unavailable, failed = "device.round_unavailable", "device.round_failed"

    def __init__(self, database: Database, controllers: Controllers) -> None:
        self._database = database
        self._controllers = controllers

    async def sweep(self) -> None:
        """Name the next devices of the round."""
        if not any(route.controller.forgets for route in self._controllers.onu.routes):
            return
        async with self._database.platform() as connection:
            if await count_checks(connection) >= BATCH:
                return
            taken = await take_next(connection, DeviceKind.ONU, interval=ROUND, batch=BATCH)
        for line in taken:
            with suppress(OrderFencedError):  # an order of the line is being opened
                await self._name(line)

    async def _name(self, line: NextDevice) -> None:
        async with self._database.tenant(
            line.tenant, actor="device rounds", subscriber_ref=line.subscriber_ref, fence=CANCELLING_FENCE
        ) as connection:
            found = await read_line(connection, line.subscriber_ref)
            device = device_of(line.tenant, line.subscriber_ref, DeviceKind.ONU, found)
            if device is not None and self._controllers.onu.forgets(device):
                await begin_check(connection, DeviceKind.ONU, await with_rates(connection, device))
