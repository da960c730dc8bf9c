"""The steps on ONUs and CPEs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from activities.base import Activities, beyond_database, done, heartbeating, skipped, step, undone, warned
from activities.messages import StepContext, StepReport
from lastmile.contract.lines import Line
from lastmile.db import Database, TenantConnection
from lastmile.devices import records
from lastmile.devices.controllers import Controller, LineDevice, switch
from lastmile.devices.pending_calls import record_answer
from lastmile.devices.records import DeviceKind
from lastmile.subscribers import previous_values
from lastmile.subscribers.records import read_line

__all__ = [
    "CONTROLLER_NAMES",
    "ControllerActivities",
    "DeviceActivities",
    "device_of",
    "devices_of_changes",
    "kept_devices",
    "line_device",
    "same_device",
    "to_switch_off",
]

CONTROLLER_NAMES = {DeviceKind.ONU: "OLT controller", DeviceKind.CPE: "ACS"}


class ControllerActivities(Activities):
    """The base of activities on devices, with the controller of each kind."""

    def __init__(self, database: Database, onu: Controller | None = None, cpe: Controller | None = None) -> None:
        super().__init__(database)
        self._controllers = {DeviceKind.ONU: onu, DeviceKind.CPE: cpe}

    def _controller(self, ref: StepContext, kind: DeviceKind) -> Controller | None:
        """Return the controller to ask; None for an adopted line, whose devices are in service."""
        return None if ref.adopts else self._controllers[kind]

    async def _call(
        self, ref: StepContext, kind: DeviceKind, controller: Controller, calls: Iterable[tuple[LineDevice, bool]]
    ) -> str:
        """Switch each device on or off, and record the answers. Return what the devices wait for; empty: nothing."""
        async with heartbeating():
            answers = [(device, on, await switch(controller, device, on)) for device, on in calls]
        async with self._order(ref) as connection:
            for device, on, waits_for in answers:
                await record_answer(connection, ref.tenant, ref.order_id, kind, device, on, waits_for)
        return "; ".join(f"{device.identity}: {waits_for}" for device, _, waits_for in answers if waits_for)

    def _before_switch(self, ref: StepContext, kind: DeviceKind) -> None:
        if self._controller(ref, kind) is not None:
            beyond_database(f"ask the {CONTROLLER_NAMES[kind]}")


class DeviceActivities(ControllerActivities):
    """The steps and undos on devices. Without a controller, a step records the desired state and is skipped."""

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
            device = device_of(ref, kind, await read_line(connection, ref.subscriber_ref))
            if device is None:
                return skipped(f"the line has no {kind.upper()}")
            if ref.undo:
                found = await records.find_device(connection, ref.subscriber_ref, kind)
                if found is None or found.updated_by_order != ref.order_id:
                    return undone(False)
                self._before_switch(ref, kind)
                await records.restore_service(connection, ref.order_id, ref.subscriber_ref, kind)
            else:
                self._before_switch(ref, kind)
                await records.set_target_state(
                    connection, ref.tenant, ref.order_id, ref.subscriber_ref, kind, device.identity, True
                )
        return await self._switch(ref, kind, [device], True)

    async def _off(self, ref: StepContext, kind: DeviceKind) -> StepReport:
        """Take the device out of service. As an undo: only where this order put the device into service."""
        async with self._order(ref) as connection:
            found = await records.find_device(connection, ref.subscriber_ref, kind)
            if found is None:
                return undone(False) if ref.undo else skipped(f"the line has no {kind.upper()} in service")
            if ref.undo and found.created_by_order != ref.order_id:
                return undone(False)
            line = await read_line(connection, ref.subscriber_ref)
            off = [device_of(ref, kind, line) or LineDevice(ref.subscriber_ref, found.identity, tenant=ref.tenant)]
            self._before_switch(ref, kind)
            await records.set_target_state(
                connection, ref.tenant, ref.order_id, ref.subscriber_ref, kind, found.identity, False
            )
            if self._controller(ref, kind) is not None:
                # An unfinished change, whose undo was skipped, may have left another device in service.
                left = [] if ref.undo else await devices_of_changes(connection, ref.subscriber_ref, kind)
                off = await to_switch_off(connection, kind, [*off, *left])
        report = await self._switch(ref, kind, off, False)
        if ref.undo:
            async with self._order(ref) as connection:
                await records.delete_device(connection, ref.order_id, ref.subscriber_ref, kind)
        return report

    async def _switch(self, ref: StepContext, kind: DeviceKind, those: Sequence[LineDevice], on: bool) -> StepReport:
        controller = self._controller(ref, kind)
        if controller is None:
            state = "in service" if on else "out of service"
            why = "the line is adopted" if ref.adopts else f"no {CONTROLLER_NAMES[kind]} is configured"
            return skipped(f"{why}: recorded that {those[0].identity} should be {state}")
        waits = await self._call(ref, kind, controller, [(device, on) for device in those])
        if ref.undo:
            return undone(True).model_copy(update={"reason": waits})
        return warned(waits) if waits else done()


def device_of(ref: StepContext, kind: DeviceKind, line: Line | None) -> LineDevice | None:
    """Return the line's device of this kind, with its place; None if the line has none."""
    identity = None if line is None else line.onu_serial if kind is DeviceKind.ONU else line.cpe_identity
    if line is None or identity is None:
        return None
    return line_device(ref, kind, identity, line)


def line_device(ref: StepContext, kind: DeviceKind, identity: str, line: Line) -> LineDevice:
    """Return the device of this identity at the line's place."""
    device = LineDevice(
        ref.subscriber_ref, identity, line.olt, line.pon_port, line.s_vlan, line.c_vlan, tenant=ref.tenant
    )
    if kind is DeviceKind.ONU:
        return replace(device, onu_type=line.onu_type, speed_profile=line.speed_profile)
    return replace(device, oui=line.cpe_oui, product_class=line.cpe_product_class, serial=line.cpe_serial)


def same_device(kind: DeviceKind, one: LineDevice, other: LineDevice) -> bool:
    """Return whether both are one CPE, which has no place of its own, or one ONU at the same place."""
    if kind is DeviceKind.ONU:
        return _place(one) == _place(other)
    # A line can get the MAC address of its CPE later, which then is the identity.
    return one.identity == other.identity or (one.serial is not None and _tr069_names(one) == _tr069_names(other))


def _place(onu: LineDevice) -> tuple[object, ...]:
    return onu.identity, onu.olt, onu.pon_port, onu.s_vlan, onu.c_vlan


def _tr069_names(cpe: LineDevice) -> tuple[str | None, ...]:
    return cpe.oui, cpe.product_class, cpe.serial


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
