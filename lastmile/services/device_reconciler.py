"""The reconciler of devices: it repeats the calls that a device has yet to follow, until it has followed."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from lastmile.background import Sweeper
from lastmile.db import Database
from lastmile.devices.controllers import DeviceSwitch, switch
from lastmile.devices.errors import AmbiguousDeviceError, ControllerRefusedError, ControllerUnavailableError
from lastmile.devices.pending_calls import PendingCall, claim_due_calls, release_call, settle_call
from lastmile.devices.records import DeviceKind

__all__ = ["DeviceReconciler"]

INTERVAL = timedelta(seconds=5)
CALL_TIME = timedelta(minutes=2)
"""How long one call may take."""
LEASE = 2 * CALL_TIME
"""How long a claim lasts: longer than its call, also where the clocks of two machines differ."""
BATCH = 64
AWAY = (SQLAlchemyError, OSError, TimeoutError)

log = structlog.get_logger("lastmile.devices")


class DeviceReconciler(Sweeper):
    """Repeats pending calls in the background within `async with`. Every worker runs one; their claims exclude."""

    pause, away = INTERVAL, AWAY
    unavailable, failed = "device.sweep_unavailable", "device.sweep_failed"

    def __init__(self, database: Database, controllers: Mapping[DeviceKind, DeviceSwitch]) -> None:
        self._database = database
        self._controllers = controllers

    async def sweep(self) -> None:
        """Repeat every call that is due. Raises one of `AWAY` where PostgreSQL does not answer."""
        while True:
            async with self._database.platform() as connection:
                calls = await claim_due_calls(connection, lease=LEASE, batch=BATCH)
            try:
                async with asyncio.TaskGroup() as repeating:
                    for call in calls:
                        repeating.create_task(self._repeat(call))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            if len(calls) < BATCH:
                return

    async def _repeat(self, call: PendingCall) -> None:
        waits_for = error = ""
        try:
            async with asyncio.timeout(CALL_TIME.total_seconds()):
                waits_for = await switch(self._controllers[call.kind], call.device, call.on)
        except (ControllerUnavailableError, ControllerRefusedError, AmbiguousDeviceError) as failure:
            error = str(failure)
        except TimeoutError:
            error = f"the controller did not answer within {CALL_TIME.total_seconds():.0f} s"
        about = {
            "tenant": call.tenant,
            "subscriber_ref": call.device.subscriber_ref,
            "kind": call.kind,
            "identity": call.device.identity,
        }
        async with self._database.tenant(
            call.tenant, actor="device reconciler", order_id=call.order_id, subscriber_ref=call.device.subscriber_ref
        ) as connection:
            if waits_for or error:
                await release_call(connection, call, waits_for=waits_for, error=error)
            elif await settle_call(connection, call):
                log.info("device.followed", **about, on=call.on)
        if error:
            log.warning("device.not_asked", **about, reason=error)
