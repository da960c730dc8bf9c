"""The reconciler of devices: it repeats the calls that a device has yet to follow, until it has followed."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from lastmile.background import Sweeper
from lastmile.db import Database, TenantConnection
from lastmile.devices.controllers import switch
from lastmile.devices.errors import AmbiguousDeviceError, ControllerRefusedError, ControllerUnavailableError
from lastmile.devices.pending_calls import (
    PendingCall,
    claim_due_calls,
    drop_check,
    find_replacement,
    release_call,
    settle_call,
)
from lastmile.devices.records import DeviceKind, is_shared
from lastmile.devices.routing import Router
from lastmile.devices.scopes import Scope

__all__ = ["DeviceReconciler"]

INTERVAL = timedelta(seconds=2)
CALL_TIME = timedelta(minutes=2)
"""How long one call may take."""
LEASE = 2 * CALL_TIME
"""A claim outlasts its call."""
BATCH = 64
AT_ONCE = 4
"""The calls to one controller at once: orders have more."""
AWAY = (SQLAlchemyError, OSError, TimeoutError)

log = structlog.get_logger("lastmile.devices")


class DeviceReconciler(Sweeper):
    """Repeats pending calls in the background within `async with`. Every worker runs one; their claims exclude."""

    pause, away = INTERVAL, AWAY
    unavailable, failed = "device.sweep_unavailable", "device.sweep_failed"

    def __init__(self, database: Database, controllers: Mapping[DeviceKind, Router[Any]]) -> None:
        self._database = database
        self._controllers = controllers

    async def sweep(self) -> None:
        """Repeat every call that is due. Raises one of `AWAY` where PostgreSQL does not answer."""
        silent: dict[Scope, str] = {}
        while True:
            async with self._database.platform() as connection:
                calls = await claim_due_calls(connection, lease=LEASE, batch=BATCH)
            late = asyncio.get_running_loop().time() + (LEASE - CALL_TIME).total_seconds()
            slots: dict[Scope | None, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
            try:
                async with asyncio.TaskGroup() as repeating:
                    for call in calls:
                        repeating.create_task(self._repeat(call, slots[self._scope(call)], silent, late))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            if len(calls) < BATCH:
                break
        for scope, reason in silent.items():
            log.warning("device.controller_unavailable", controlled=str(scope), reason=reason)

    async def _repeat(self, call: PendingCall, slot: asyncio.Semaphore, silent: dict[Scope, str], late: float) -> None:
        """Repeat the call, unless its controller was silent in this sweep: the others must not wait for it.

        A call that has waited until `late` is left to the next sweep: it would outlast its claim.
        """
        async with slot:
            scope = self._scope(call)
            waits_for, error = "", silent.get(scope, "") if scope else ""
            if not error and asyncio.get_running_loop().time() > late:
                return
            asked = not error
            if asked:
                waits_for, error = await self._ask(call, silent)
                await self._leave_former_place(call)
        async with self._transaction(call) as connection:
            if call.is_check and (waits_for or not asked):
                # Nothing is known to be lost of an ONU without power: the next round asks again.
                await drop_check(connection, call)
            elif waits_for or error:
                await release_call(connection, call, waits_for=waits_for, error=error)
            elif await settle_call(connection, call) and not call.is_check:
                log.info("device.followed", **_about(call), on=call.on)

    async def _ask(self, call: PendingCall, silent: dict[Scope, str]) -> tuple[str, str]:
        """Return what the device waits for, and why the call has failed."""
        device, scope = call.device, self._scope(call)
        try:
            if not call.on:  # other lines may have come to the device, or left it
                async with self._transaction(call) as connection:
                    device = replace(
                        device, shared=await is_shared(connection, device.subscriber_ref, call.kind, device.identity)
                    )
            async with asyncio.timeout(CALL_TIME.total_seconds()):
                return await switch(self._controllers[call.kind], device, call.on), ""
        except ControllerUnavailableError as failure:
            if scope:
                silent[scope] = str(failure)
            return "", str(failure)
        except (ControllerRefusedError, AmbiguousDeviceError) as failure:
            log.warning("device.call_failed", **_about(call), reason=str(failure))
            return "", str(failure)
        except TimeoutError:
            reason = f"the controller did not answer within {CALL_TIME.total_seconds():.0f} s"
            if scope:
                silent[scope] = reason
            return "", reason
        except AWAY:
            raise
        except Exception:  # the failure of one call must not keep the others
            log.exception("device.call_failed", **_about(call))
            return "", "the call failed: the log of the workers says why"

    async def _leave_former_place(self, call: PendingCall) -> None:
        """Switch an ONU off where the call may have put it into service after an order had moved it from there.

        The call of the order is repeated after this.
        """
        if not call.on or call.kind is not DeviceKind.ONU:
            return
        async with self._transaction(call) as connection:
            moved = await find_replacement(connection, call)
        if moved is not None and moved.place != call.device.place:
            _, error = await self._ask(replace(call, on=False), {})
            log.info("device.former_place_left", **_about(call), error=error)

    def _scope(self, call: PendingCall) -> Scope | None:
        """Return what the calls to one controller have in common; None: no controller is responsible."""
        return self._controllers[call.kind].scope_of(call.device)

    def _transaction(self, call: PendingCall) -> AbstractAsyncContextManager[TenantConnection]:
        return self._database.tenant(
            call.tenant, actor="device reconciler", order_id=call.order_id, subscriber_ref=call.device.subscriber_ref
        )


def _about(call: PendingCall) -> dict[str, str]:
    device = call.device
    return {
        "tenant": call.tenant,
        "subscriber_ref": device.subscriber_ref,
        "kind": call.kind,
        "identity": device.identity,
    }
