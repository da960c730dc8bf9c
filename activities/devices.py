"""The steps on ONUs and CPEs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from activities.base import Activities, beyond_database, done, heartbeating, skipped, step, undone, warned
from activities.messages import StepContext, StepReport
from lastmile.db import Database, TenantConnection
from lastmile.devices import records
from lastmile.devices.controllers import LineDevice, switch
from lastmile.devices.pending_calls import begin_call, record_answer
from lastmile.devices.records import DeviceKind
from lastmile.devices.routing import CONTROLLER_NAMES, Controllers, no_controller
from lastmile.services.line_devices import device_of, with_rates
from lastmile.subscribers import previous_values
from lastmile.subscribers.records import read_line

__all__ = [
    "ControllerActivities",
    "DeviceActivities",
    "devices_of_changes",
    "kept_devices",
    "report_of",
    "same_device",
    "to_switch_off",
]


class ControllerActivities(Activities):
    """The base of activities on devices, with the controllers of each kind."""

    def __init__(self, database: Database, controllers: Controllers | None = None) -> None:
        super().__init__(database)
        self._routers = (controllers or Controllers.everywhere()).by_kind

    def _controlled(self, ref: StepContext, kind: DeviceKind, devices: Iterable[LineDevice | None]) -> list[LineDevice]:
        """Return the devices that a controller is responsible for. If there are any, leave the group of steps.

        No controller is asked for an adopted line, whose devices are in service.
        """
        router = self._routers[kind]
        found = [] if ref.adopts else [device for device in devices if device is not None and router.controls(device)]
        if found:
            beyond_database(f"ask the {CONTROLLER_NAMES[kind]}")
        return found

    async def _device(self, connection: TenantConnection, ref: StepContext, kind: DeviceKind) -> LineDevice | None:
        """Return the line's device of this kind, with its place and the rates of its plan; None: it has none."""
        device = device_of(ref.tenant, ref.subscriber_ref, kind, await read_line(connection, ref.subscriber_ref))
        return device and await self._with_rates(connection, kind, device)

    async def _with_rates(self, connection: TenantConnection, kind: DeviceKind, device: LineDevice) -> LineDevice:
        """Return the device with the rates of the line's plan. Without controllers nothing needs them."""
        if kind is not DeviceKind.ONU or not self._routers[kind].routes:
            return device
        return await with_rates(connection, device)

    async def _call(self, ref: StepContext, kind: DeviceKind, calls: Iterable[tuple[LineDevice, bool]]) -> str:
        """Switch each device on or off, and record the answers. Return what the devices wait for; empty: nothing."""
        async with self._order(ref) as connection:
            begun = [
                (device, on, await begin_call(connection, ref.tenant, ref.order_id, kind, device, on))
                for device, on in calls
            ]
        async with heartbeating():
            answers = [await switch(self._routers[kind], device, on) for device, on, _ in begun]
        async with self._order(ref) as connection:
            for (device, on, version), waits_for in zip(begun, answers, strict=True):
                await record_answer(connection, kind, device, on, version, waits_for)
        waiting = zip(begun, answers, strict=True)
        return "; ".join(f"{device.identity}: {waits_for}" for (device, _, _), waits_for in waiting if waits_for)


class DeviceActivities(ControllerActivities):
    """The steps and undos on devices.

    Where no controller is responsible for the device, a step records the desired state and is skipped.
    """

    @step
    async def activate_onu(self, ref: StepContext) -> StepReport:
        return await self._on(ref, DeviceKind.ONU)

    @step
    async def deactivate_onu(self, ref: StepContext) -> StepReport:
        return await self._off(ref, DeviceKind.ONU)

    @step
    async def configure_cpe(self, ref: StepContext) -> StepReport:
        return await self._on(ref, DeviceKind.CPE)

    @step
    async def unconfigure_cpe(self, ref: StepContext) -> StepReport:
        return await self._off(ref, DeviceKind.CPE)

    async def _on(self, ref: StepContext, kind: DeviceKind) -> StepReport:
        """Put the device into service. As an undo: only where this order took the device out of service."""
        async with self._order(ref) as connection:
            device = await self._device(connection, ref, kind)
            if device is None:
                return skipped(f"the line has no {kind.upper()}")
            if ref.undo:
                found = await records.find_device(connection, ref.subscriber_ref, kind)
                if found is None or found.updated_by_order != ref.order_id:
                    return undone(False)
                asked = self._controlled(ref, kind, [device])
                await records.restore_service(connection, ref.order_id, ref.subscriber_ref, kind)
            else:
                asked = self._controlled(ref, kind, [device])
                await records.set_target_state(
                    connection, ref.tenant, ref.order_id, ref.subscriber_ref, kind, device.identity, True
                )
        return await self._switch(ref, kind, device, asked, True)

    async def _off(self, ref: StepContext, kind: DeviceKind) -> StepReport:
        """Take the device out of service. As an undo: only where this order put the device into service."""
        async with self._order(ref) as connection:
            found = await records.find_device(connection, ref.subscriber_ref, kind)
            if found is None:
                return undone(False) if ref.undo else skipped(f"the line has no {kind.upper()} in service")
            if ref.undo and found.created_by_order != ref.order_id:
                return undone(False)
            line = await read_line(connection, ref.subscriber_ref)
            own = device_of(ref.tenant, ref.subscriber_ref, kind, line)
            own = own or LineDevice(ref.subscriber_ref, found.identity, tenant=ref.tenant)
            left: list[LineDevice] = []
            if not ref.undo and self._routers[kind].routes:
                # An unfinished change, whose undo was skipped, may have left another device in service.
                left = await devices_of_changes(connection, ref.subscriber_ref, kind)
            asked = self._controlled(ref, kind, [own, *left])
            await records.set_target_state(
                connection, ref.tenant, ref.order_id, ref.subscriber_ref, kind, found.identity, False
            )
            asked = await to_switch_off(connection, kind, asked)
        report = await self._switch(ref, kind, own, asked, False)
        if ref.undo:
            async with self._order(ref) as connection:
                await records.delete_device(connection, ref.order_id, ref.subscriber_ref, kind)
        return report

    async def _switch(
        self, ref: StepContext, kind: DeviceKind, own: LineDevice, asked: Sequence[LineDevice], on: bool
    ) -> StepReport:
        """Switch the devices that a controller is asked for, among them the line's own if it is controlled."""
        state = "in service" if on else "out of service"
        why = "the line is adopted" if ref.adopts else no_controller(kind, own)
        recorded = f"{why}: recorded that {own.identity} should be {state}"
        if not asked:
            return skipped(recorded)
        waits = await self._call(ref, kind, [(device, on) for device in asked])
        if ref.undo:
            return undone(True).model_copy(update={"reason": waits})
        own_asked = any(replace(device, shared=own.shared) == own for device in asked)
        return report_of(waits, "" if own_asked else recorded)


def same_device(kind: DeviceKind, one: LineDevice, other: LineDevice) -> bool:
    """Return whether both are one CPE, which has no place of its own, or one ONU at the same place."""
    if kind is DeviceKind.ONU:
        return one.place == other.place
    # A line can get the MAC address of its CPE later, which then is the identity.
    return one.identity == other.identity or (one.serial is not None and _tr069_names(one) == _tr069_names(other))


def _tr069_names(cpe: LineDevice) -> tuple[str | None, ...]:
    return cpe.oui, cpe.product_class, cpe.serial


def report_of(waits: str, recorded: str) -> StepReport:
    """Report what the devices wait for, and what is only recorded, since no controller is responsible for it."""
    if waits:
        return warned("; ".join(filter(None, (waits, recorded))))
    return done().model_copy(update={"reason": recorded})


def kept_devices(kept: dict[str, Any]) -> list[LineDevice | None]:
    """Return the devices of a kept value: the one that the line had before, and those that came after it."""
    return [None if device is None else LineDevice(**device) for device in kept["devices"]]


async def devices_of_changes(connection: TenantConnection, subscriber_ref: str, kind: DeviceKind) -> list[LineDevice]:
    """Return every device that a change of the line, which this order makes or another has not finished, has named."""
    values = await previous_values.kept_by_every_order(connection, subscriber_ref, f"change_{kind}")
    return list(dict.fromkeys(device for value in values for device in kept_devices(value) if device is not None))


async def to_switch_off(
    connection: TenantConnection,
    kind: DeviceKind,
    devices: Iterable[LineDevice | None],
    stays: LineDevice | None = None,
) -> list[LineDevice]:
    """Return those of the devices that must be switched off, each once, with whether other lines are on it."""
    off: list[LineDevice] = []
    for device in devices:
        if device is None or any(same_device(kind, device, other) for other in (stays, *off) if other is not None):
            continue
        shared = await records.is_shared(connection, device.subscriber_ref, kind, device.identity)
        off.append(replace(device, shared=shared))
    return off
