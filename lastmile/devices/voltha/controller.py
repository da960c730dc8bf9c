"""ONUs behind VOLTHA: each change is made where it is missing, and then confirmed by reading."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from voltha_protos import openflow_13_pb2 as of
from voltha_protos.common_pb2 import AdminState, ConnectStatus, OperStatus
from voltha_protos.device_pb2 import Port

from lastmile.devices.controllers import DONE, LineDevice, Outcome
from lastmile.devices.errors import (
    AmbiguousDeviceError,
    ControllerRefusedError,
    ControllerUnavailableError,
    DeviceNotSeenError,
)
from lastmile.devices.voltha.core import VolthaCore
from lastmile.devices.voltha.flows import (
    Line,
    addition,
    identity,
    line_flows,
    line_meters,
    meter_of_onu,
    meter_removal,
    removal,
    same_treatment,
    same_vlans,
    serves_port,
)
from lastmile.devices.voltha.options import VolthaOptions

__all__ = ["VolthaController"]

_READINGS = 4
"""How often a change is read back before the device is said to wait."""

_CONFIGURED = "omci-flows-pushed"
"""The `reason` of an ONU that has taken over its flows."""
_ENABLED_AGAIN = "onu-reenabled"
"""The `reason` of an ONU that was disabled and enabled again, until it takes over the next flow."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the flows of an ONU are."""

    logical_id: str
    """The logical device; empty while the OLT is not active."""
    unis: Sequence[int]
    """The Ethernet ports of the ONU; empty until the ONU was active once."""
    nnis: Sequence[int]
    """The uplink ports of the OLT."""


class VolthaController:
    """An OLT controller for ONUs behind one core of VOLTHA."""

    forgets = True

    def __init__(self, core: VolthaCore, options: VolthaOptions) -> None:
        self._core = core
        self._options = options

    async def check(self) -> str:
        """Return the product and its version."""
        return f"VOLTHA {await self._core.version()}"

    async def switch_on(self, device: LineDevice) -> Outcome:
        """Enable the ONU, and write the meters and flows of the line that are missing or differ."""
        vlans = _vlans(device)
        onu = await self._find_one(device.identity)
        if waits_for := await self._activate(onu):
            return Outcome(waits_for)
        return await self._write_line(onu, device, vlans)

    async def switch_off(self, device: LineDevice) -> Outcome:
        """Remove the flows and meters of the line, and disable the ONU unless other lines are on it.

        VOLTHA keeps a record for each OLT that has seen the ONU, and none of them may serve the line. The ONU is not
        deleted: VOLTHA discovers a deleted ONU again some seconds later, and activates it.
        """
        waiting = [await self._switch_off(onu, device) for onu in await self._find(device.identity)]
        return Outcome("; ".join(filter(None, waiting)))

    async def set_speed(self, device: LineDevice) -> Outcome:
        """Change the meters of the line. Its flows are away for a moment: the OLT reads a meter with a new flow."""
        if device.shared and not self._options.c_vlan_at_uni:
            raise ControllerRefusedError(
                f"Other lines are on ONU {device.identity}, and all of them have the same rates: their frames have no "
                "tag of their own. Set `c_vlan_at_uni` of the controller if the frames have one."
            )
        vlans = _vlans(device)
        onu = await self._find_one(device.identity)
        return await self._write_line(onu, device, vlans, waits_for=_inactive(onu))

    async def _write_line(
        self, onu: Any, device: LineDevice, vlans: tuple[int, int], *, waits_for: str = ""
    ) -> Outcome:
        """Write the meters, and unless the ONU waits for something, the flows."""
        place = await self._place(onu)
        line = self._line(onu, place, vlans)
        changed = await self._write_meters(place, line, device)
        if changed is None:
            return Outcome(_not_removed(onu))
        if waits_for:
            return Outcome(waits_for)
        written = await self._write_flows(onu, place, line)
        return await self._applied(onu, place, line, written or changed)

    async def _write_meters(self, place: _Place, line: Line, device: LineDevice) -> bool | None:
        """Write the meters that are missing or have other rates; return whether there were any.

        None: the flows with the former rates stay, and so do these rates. Where the rates are not known, present
        meters keep theirs.
        """
        default = self._options.line_kbps
        known = device.download_kbps is not None
        present = {meter.meter_id: meter for meter in await self._core.meters(place.logical_id)}
        changed = [
            meter
            for meter in line_meters(line, device.download_kbps or default, device.upload_kbps or default)
            if meter.meter_id not in present or (known and not _same_rate(present[meter.meter_id], meter))
        ]
        if any(meter.meter_id in present for meter in changed):
            own = {identity(flow) for flow in line_flows(line)}
            # First the flows: a call that is cut off here finds them missing, or the meters to be changed.
            if not all(await self._remove_flows(place, lambda flow: identity(flow) in own)):
                return None
        for meter in changed:
            meter.command = of.OFPMC_MODIFY if meter.meter_id in present else of.OFPMC_ADD
            await self._core.change_meter(place.logical_id, meter)
        return bool(changed)

    async def _activate(self, onu: Any) -> str:
        """Enable the ONU, and give it the time to start; return what it waits for."""
        if onu.admin_state != AdminState.ENABLED:
            await self._core.enable(onu.id)
        elif onu.oper_status != OperStatus.ACTIVATING:
            return _inactive(onu)
        return await self._confirm(lambda: self._read_inactive(onu))

    async def _switch_off(self, onu: Any, device: LineDevice) -> str:
        """Return what the ONU waits for."""
        if device.shared and not self._options.c_vlan_at_uni:
            return ""  # the other lines use the same flows
        place = await self._place(onu)
        of_line, of_meter = self._ownership(onu, place, device)
        removed = await self._remove_flows(place, of_line)
        changed = bool(removed)
        if all(removed):  # with a meter the core forgets its flows, and the OLT keeps them
            changed |= await self._remove_meters(place, of_meter)
        if not device.shared and not _is_off(onu):
            await self._core.disable(onu.id)
            changed = True

        async def left() -> str:
            if place.logical_id and any(map(of_line, await self._core.flows(place.logical_id))):
                return _not_removed(onu)
            now = await self._core.device(onu.id)
            if now is not None and not device.shared and not _is_off(now):
                return f"VOLTHA has not disabled ONU {onu.serial_number} yet"
            return ""

        return await self._confirm(left) if changed else ""

    def _ownership(
        self, onu: Any, place: _Place, device: LineDevice
    ) -> tuple[Callable[[Any], bool], Callable[[int], bool]]:
        """Return which flows and which meter ids are the line's: all on the ONU, unless other lines are on it."""
        if not device.shared:
            return partial(serves_port, unis=place.unis, nnis=place.nnis), partial(meter_of_onu, unis=place.unis)
        line = self._line(onu, place, _vlans(device))
        own = {identity(flow) for flow in line_flows(line)}
        return lambda flow: identity(flow) in own, {line.upstream_meter, line.downstream_meter}.__contains__

    async def _remove_flows(self, place: _Place, of_line: Callable[[Any], bool]) -> list[bool]:
        """Remove these flows; return of each whether it is removed."""
        if not place.logical_id:
            return []
        flows = [flow for flow in await self._core.flows(place.logical_id) if of_line(flow)]
        return [await self._core.change_flow(place.logical_id, removal(flow)) for flow in flows]

    async def _remove_meters(self, place: _Place, of_line: Callable[[int], bool]) -> bool:
        """Remove these meters; return whether there were any."""
        if not place.logical_id:
            return False
        meters = [one.meter_id for one in await self._core.meters(place.logical_id) if of_line(one.meter_id)]
        for meter in meters:
            await self._core.change_meter(place.logical_id, meter_removal(meter))
        return bool(meters)

    async def _find(self, serial: str) -> list[Any]:
        """Return VOLTHA's records of the ONU. VOLTHA writes the digits of a serial number in lower case."""
        devices = await self._core.devices()
        return [device for device in devices if not device.root and device.serial_number.upper() == serial]

    async def _find_one(self, serial: str) -> Any:
        """Return the ONU. An ONU that was moved to another OLT has a record of each: the reachable one counts."""
        found = await self._find(serial)
        reachable = [onu for onu in found if onu.connect_status == ConnectStatus.REACHABLE]
        if not found:
            raise DeviceNotSeenError(
                f"VOLTHA at {self._core.address} has not discovered ONU {serial} yet. It does when the ONU has power "
                "and signal."
            )
        if len(found) > 1 and len(reachable) != 1:
            raise AmbiguousDeviceError(
                f"VOLTHA at {self._core.address} has {len(found)} ONUs with serial number {serial}, of which "
                f"{len(reachable)} are reachable. Delete those that are gone in VOLTHA."
            )
        return reachable[0] if reachable else found[0]

    async def _place(self, onu: Any) -> _Place:
        olt = await self._core.device(onu.parent_id)
        if olt is None or not olt.parent_id:  # the parent of an OLT is its logical device
            return _Place("", (), ())
        unis = [port.port_no for port in await self._core.device_ports(onu.id) if port.type == Port.ETHERNET_UNI]
        nnis = [port.ofp_port.port_no for port in await self._core.logical_ports(olt.parent_id) if port.root_port]
        return _Place(olt.parent_id, sorted(unis), sorted(nnis))

    def _line(self, onu: Any, place: _Place, vlans: tuple[int, int]) -> Line:
        if not place.unis or not place.nnis:
            lacking = f"Ethernet port of ONU {onu.serial_number}" if place.nnis else "uplink of the ONU's OLT"
            raise ControllerUnavailableError(
                f"VOLTHA at {self._core.address} does not know the {lacking} yet. Check that the OLT is active."
            )
        options = self._options
        return Line(place.unis[0], place.nnis[0], *vlans, options.technology_profile, options.c_vlan_at_uni)

    async def _write_flows(self, onu: Any, place: _Place, line: Line) -> bool:
        """Write the flows of the line that are missing or differ; return whether there were any."""
        present = {identity(flow): flow for flow in await self._core.flows(place.logical_id)}
        wanted = [(flow, present.get(identity(flow))) for flow in line_flows(line)]
        for flow, found in wanted:
            if found is not None and not same_vlans(found, flow):
                raise ControllerRefusedError(
                    f"Another line is on the Ethernet port of ONU {onu.serial_number}: VOLTHA has flows with other "
                    f"VLANs than S-VLAN {line.s_vlan} and C-VLAN {line.c_vlan} there. Switch that line off first."
                )
        if onu.reason != _ENABLED_AGAIN:  # which says nothing of the flows that VOLTHA has
            wanted = [(flow, found) for flow, found in wanted if not same_treatment(found, flow)]
        for flow, found in wanted:
            if found is not None:  # the OLT does not change the meter of a flow
                await self._core.change_flow(place.logical_id, removal(flow))
        for flow, _ in wanted:
            await self._core.change_flow(place.logical_id, addition(flow))
        return bool(wanted)

    async def _applied(self, onu: Any, place: _Place, line: Line, written: bool) -> Outcome:
        """Read back whether VOLTHA has kept the flows, and whether the ONU has taken them over."""
        wanted = line_flows(line)

        async def missing() -> str:
            now = await self._core.device(onu.id) or onu
            if waits_for := _inactive(now):
                return waits_for
            present = {identity(flow): flow for flow in await self._core.flows(place.logical_id)}
            if not all(same_treatment(present.get(identity(flow)), flow) for flow in wanted):
                return f"VOLTHA accepted the flows of ONU {onu.serial_number}, and has not applied them"
            if now.reason != _CONFIGURED:
                return f"ONU {onu.serial_number} has not taken over its configuration"
            return ""

        if not written and not await missing():
            return DONE
        return Outcome(await self._confirm(missing))

    async def _read_inactive(self, onu: Any) -> str:
        now = await self._core.device(onu.id)
        return f"VOLTHA is discovering ONU {onu.serial_number} again" if now is None else _inactive(now)

    async def _confirm(self, read: Callable[[], Awaitable[str]]) -> str:
        """Read some seconds after a change, until nothing is missing; return what is missing in the end."""
        missing = ""
        for _ in range(_READINGS):
            await asyncio.sleep(self._options.settle_seconds)
            if not (missing := await read()):
                break
        return missing


def _vlans(device: LineDevice) -> tuple[int, int]:
    if device.s_vlan is None or device.c_vlan is None:
        raise ControllerRefusedError(
            f"The line of subscriber {device.subscriber_ref} lacks an S-VLAN or a C-VLAN. VOLTHA needs both: give "
            "them in the order."
        )
    return device.s_vlan, device.c_vlan


def _not_removed(onu: Any) -> str:
    return f"VOLTHA has not removed the flows of ONU {onu.serial_number} yet"


def _inactive(onu: Any) -> str:
    """Return why the ONU takes no flows; empty: it does."""
    if onu.admin_state != AdminState.ENABLED:
        return f"ONU {onu.serial_number} is disabled in VOLTHA"
    if onu.connect_status != ConnectStatus.REACHABLE:
        return f"ONU {onu.serial_number} has no power or no signal"
    if onu.oper_status != OperStatus.ACTIVE:
        return f"ONU {onu.serial_number} is starting"
    return ""


def _is_off(onu: Any) -> bool:
    return onu.admin_state in (AdminState.DISABLED, AdminState.PREPROVISIONED)


def _same_rate(one: Any | None, other: Any) -> bool:
    return one is not None and [band.rate for band in one.bands] == [band.rate for band in other.bands]
