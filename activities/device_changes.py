"""The steps that replace the ONU or the CPE of a line, or move it to another place.

A step switches the device of the former line off, and the device of the changed line on. The value that the step keeps
for its undo names every device that the step may have switched on. So an order that follows an unfinished order
switches off the devices that the unfinished order switched on.
"""

from collections.abc import Iterable
from dataclasses import asdict, replace

from activities.base import skipped, step, undone
from activities.devices import (
    ControllerActivities,
    devices_of_changes,
    kept_devices,
    report_of,
    same_device,
    to_switch_off,
)
from activities.messages import StepContext, StepReport
from lastmile.db import TenantConnection
from lastmile.devices import records
from lastmile.devices.controllers import LineDevice
from lastmile.devices.pending_calls import correct_device
from lastmile.devices.records import Device, DeviceKind
from lastmile.devices.routing import no_controller
from lastmile.services.line_devices import device_of
from lastmile.subscribers import previous_values
from lastmile.subscribers.line_changes import read_line_before, write_line_before

__all__ = ["DeviceChangeActivities"]


class DeviceChangeActivities(ControllerActivities):
    """The steps and undos that change a line's devices.

    A device that no controller is responsible for is recorded, and not switched.
    """

    @step
    async def change_onu(self, ref: StepContext) -> StepReport:
        return await self._change(ref, DeviceKind.ONU)

    @step
    async def restore_onu(self, ref: StepContext) -> StepReport:
        return await self._restore(ref, DeviceKind.ONU)

    @step
    async def change_cpe(self, ref: StepContext) -> StepReport:
        return await self._change(ref, DeviceKind.CPE)

    @step
    async def restore_cpe(self, ref: StepContext) -> StepReport:
        return await self._restore(ref, DeviceKind.CPE)

    async def _change(self, ref: StepContext, kind: DeviceKind) -> StepReport:
        async with self._order(ref) as connection:
            present = await self._device(connection, ref, kind)
            if present is None:
                return skipped(f"the line has no {kind.upper()}")
            record = await records.find_device(connection, ref.subscriber_ref, kind)
            before = device_of(ref.tenant, ref.subscriber_ref, kind, await read_line_before(connection, ref.order_id))
            before = before and await self._with_rates(connection, kind, before)
            unchanged, earlier = await self._keep_devices(connection, ref, kind, record, before, present)
            if unchanged:
                return skipped(f"the line keeps its {kind.upper()} {present.identity}")
            out_of_service = record is not None and not record.in_service
            asked = [] if out_of_service else self._controlled(ref, kind, [*earlier, present])
            await records.replace_device(
                connection, ref.tenant, ref.order_id, ref.subscriber_ref, kind, present.identity
            )
            if out_of_service:
                return skipped(
                    f"recorded {present.identity}, which stays out of service like the {kind.upper()} before"
                )
            recorded = f"{no_controller(kind, present)}: recorded that {_told(kind, present, before)}"
            if not asked:
                return skipped(recorded)
            off = await to_switch_off(connection, kind, asked, present)
            await _correct_pending_calls(connection, kind, earlier, present)
        controlled = present in asked
        waits = await self._switch(ref, kind, off, present if controlled else None)
        return report_of(waits, "" if controlled else recorded)

    async def _restore(self, ref: StepContext, kind: DeviceKind) -> StepReport:
        async with self._order(ref) as connection:
            kept = await previous_values.find(connection, ref.order_id, f"change_{kind}")
            if kept is None:
                return undone(False)
            record = None if kept["record"] is None else Device(**kept["record"])
            await write_line_before(connection, ref.order_id, ref.subscriber_ref)
            before, *changed = kept_devices(kept)
            switches = changed != [before] and (record is None or record.in_service)
            asked = self._controlled(ref, kind, [*changed, before]) if switches else []
            if not asked:
                await records.restore_device(connection, ref.subscriber_ref, kind, record)
                await previous_values.take(connection, ref.order_id, f"change_{kind}")
                return undone(True)
            unconfirmed = record and replace(record, confirmed=False)
            await records.restore_device(connection, ref.subscriber_ref, kind, unconfirmed)
            off = await to_switch_off(connection, kind, asked, before)
            await _correct_pending_calls(connection, kind, changed, before)
        waits = await self._switch(ref, kind, off, before if before in asked else None)
        async with self._order(ref) as connection:
            await previous_values.take(connection, ref.order_id, f"change_{kind}")
        return undone(True).model_copy(update={"reason": waits})

    async def _keep_devices(
        self,
        connection: TenantConnection,
        ref: StepContext,
        kind: DeviceKind,
        record: Device | None,
        before: LineDevice | None,
        present: LineDevice,
    ) -> tuple[bool, list[LineDevice]]:
        """Keep the line's device for the undo, and the device that follows it.

        Return whether there is nothing to change, and every device that this order or an earlier one may have switched
        on. The value of a lost order stays the one to restore, and gets the device of this order in addition.
        """
        step_name = f"change_{kind}"
        kept = await previous_values.take(connection, ref.order_id, step_name)
        if kept is None:
            kept = {"record": record and asdict(record), "devices": [before and asdict(before)]}
        if present not in kept_devices(kept)[1:]:
            kept["devices"].append(asdict(present))
        await self._keep(connection, ref, step_name, kept)
        earlier = await devices_of_changes(connection, ref.subscriber_ref, kind)
        # As the first attempt found the record: a second attempt must tell the controller again.
        recorded = kept["record"] is not None and kept["record"]["identity"] == present.identity
        return recorded and before == present and earlier == [present], earlier

    async def _switch(
        self, ref: StepContext, kind: DeviceKind, off: Iterable[LineDevice], on: LineDevice | None
    ) -> str:
        """Switch the devices; return what they wait for.

        `on` is None where the line has no device, or no controller is responsible for it.
        """
        calls = [(device, False) for device in off]
        return await self._call(ref, kind, calls if on is None else [*calls, (on, True)])


async def _correct_pending_calls(
    connection: TenantConnection, kind: DeviceKind, devices: Iterable[LineDevice | None], stays: LineDevice | None
) -> None:
    """Let no call be repeated under a former identity of the device that stays: it would have two pending calls."""
    if stays is None:
        return
    former = {device.identity for device in devices if device is not None and same_device(kind, device, stays)}
    for identity in former - {stays.identity}:
        await correct_device(connection, kind, identity, stays)


def _told(kind: DeviceKind, present: LineDevice, before: LineDevice | None) -> str:
    if before is None or before.identity == present.identity or same_device(kind, before, present):
        return f"{present.identity} should be in service at the line's place"
    return f"{present.identity} should be in service, and {before.identity} out of service"
