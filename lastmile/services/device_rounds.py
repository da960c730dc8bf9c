"""Rounds of the workers through devices in service: they ask controllers that forget what they were told."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from lastmile.background import Sweeper
from lastmile.db import Database, TenantConnection
from lastmile.devices.controllers import switch
from lastmile.devices.errors import AmbiguousDeviceError, ControllerRefusedError, ControllerUnavailableError
from lastmile.devices.pending_calls import PendingCall, claim_check, drop_check
from lastmile.devices.records import DeviceKind
from lastmile.devices.rounds import NextDevice, take_next
from lastmile.devices.routing import Controllers
from lastmile.services.line_devices import device_of, with_rates
from lastmile.subscribers.records import read_line

__all__ = ["DeviceRounds"]

INTERVAL = timedelta(minutes=1)
ROUND = timedelta(hours=1)
"""The time from the begin of a round to that of the next."""
CALL_TIME = timedelta(minutes=2)
LEASE = 2 * CALL_TIME
BATCH = 64
AT_ONCE = 4
"""The calls at once: orders have more."""
AWAY = (ControllerUnavailableError, SQLAlchemyError, OSError, TimeoutError)

log = structlog.get_logger("lastmile.devices")


class DeviceRounds(Sweeper):
    """Asks controllers in the background, within `async with`, for the ONUs that they have confirmed.

    A controller that has lost what it was told gets it back. A device without power is left to the next round: nothing
    is known to be lost. Where the controller fails, the reconciler repeats the call.
    """

    pause, away = INTERVAL, AWAY
    unavailable, failed = "device.round_unavailable", "device.round_failed"

    def __init__(self, database: Database, controllers: Controllers, *, interval: timedelta = ROUND) -> None:
        self._database = database
        self._controllers = controllers
        self._interval = interval

    async def sweep(self) -> None:
        """Go on with the round until it ends, or a controller fails. Raises one of `AWAY`."""
        if not any(route.controller.forgets for route in self._controllers.onu.routes):
            return
        while True:
            async with self._database.platform() as connection:
                taken = await take_next(connection, DeviceKind.ONU, interval=self._interval, batch=BATCH)
            slots = asyncio.Semaphore(AT_ONCE)
            try:
                async with asyncio.TaskGroup() as asking:
                    for line in taken:
                        asking.create_task(self._look_at(line, slots))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            if len(taken) < BATCH:
                return

    async def _look_at(self, line: NextDevice, slots: asyncio.Semaphore) -> None:
        async with slots:
            if (call := await self._claim(line)) is None:
                return
            try:
                async with asyncio.timeout(CALL_TIME.total_seconds()):
                    waits_for = await switch(self._controllers.onu, call.device, True)
            except (ControllerRefusedError, AmbiguousDeviceError) as refusal:
                waits_for = str(refusal)
            async with self._transaction(line) as connection:
                await drop_check(connection, call)
            if waits_for:
                log.info("device.left_to_next_round", **line._asdict(), identity=call.device.identity, reason=waits_for)

    async def _claim(self, line: NextDevice) -> PendingCall | None:
        """Keep the call of the line's ONU. None: its controller forgets nothing, or an order has the device."""
        async with self._transaction(line) as connection:
            found = await read_line(connection, line.subscriber_ref)
            device = device_of(line.tenant, line.subscriber_ref, DeviceKind.ONU, found)
            if device is None or not self._controllers.onu.forgets(device):
                return None
            return await claim_check(connection, DeviceKind.ONU, await with_rates(connection, device), lease=LEASE)

    def _transaction(self, line: NextDevice) -> AbstractAsyncContextManager[TenantConnection]:
        return self._database.tenant(line.tenant, actor="device rounds", subscriber_ref=line.subscriber_ref)
