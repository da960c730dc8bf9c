"""ONUs of an account at SmartOLT."""

import re
from dataclasses import dataclass, replace

from lastmile.devices.controllers import DONE, LineDevice, Outcome
from lastmile.devices.errors import AmbiguousDeviceError, ControllerRefusedError, DeviceNotSeenError
from lastmile.devices.smartolt.api import Record, SmartOltApi, SmartOltRefusalError
from lastmile.devices.smartolt.discovery import Discovery
from lastmile.devices.smartolt.options import SmartOltOptions
from lastmile.fields.unsafe import escape

__all__ = ["SmartOlt"]

_PON_PORT = re.compile(r"(?:\d+/)?(\d+)/(\d+)")
"""Board and port, with or without the frame before them."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an ONU is authorized. A value of SmartOLT's that is empty is not known, and is like any."""

    olt_id: str
    board: str
    port: str
    vlan: str

    @classmethod
    def of(cls, onu: Record) -> "_Place":
        return cls(*(_text(onu.get(name)) for name in ("olt_id", "board", "port", "vlan")))

    def agrees_with(self, other: "_Place") -> bool:
        pairs = zip(self._values(), other._values(), strict=True)
        return all(not one or not another or one == another for one, another in pairs)

    def __str__(self) -> str:
        return f"OLT {self.olt_id}, board {self.board}, port {self.port}, VLAN {self.vlan}"

    def _values(self) -> tuple[str, ...]:
        return self.olt_id, self.board, self.port, self.vlan


class SmartOlt:
    """An OLT controller for the ONUs of one account at SmartOLT."""

    forgets = False

    def __init__(self, api: SmartOltApi, options: SmartOltOptions) -> None:
        self._api = api
        self._options = options
        self._discovery = Discovery(api)

    async def check(self) -> str:
        """Return the product and how many OLTs the account has: SmartOLT tells no version."""
        return f"SmartOLT, OLTs: {len(await self._api.olts())}"

    async def switch_on(self, device: LineDevice) -> Outcome:
        """Authorize the ONU at its place, or enable it where it is authorized.

        A disabled ONU at another place, or with another VLAN, is deleted first: no line is on it.
        """
        place = self._place(device)
        discovered = await self._discovery.find(int(place.olt_id), device.identity)
        refusal = None
        if discovered is not None:
            refusal = await self._authorize(device, place, discovered)
            if refusal is None:
                return DONE
        found = await self._find(device.identity)
        if found is None:
            if refusal is not None:
                raise ControllerRefusedError(f"SmartOLT does not authorize ONU {device.identity}: {refusal}")
            raise DeviceNotSeenError(
                f"{device.olt} has not discovered ONU {device.identity} yet. It does when the ONU has power and signal."
            )
        if not _Place.of(found).agrees_with(place):
            return await self._move(device, place, found, discovered)
        if not _is_enabled(found):  # a former line may have had it, with another plan
            await self._change("update_onu_speed_profiles", found, self._profiles(device))
            await self._change("enable", found)
            found = await self._find(device.identity) or found
        status = _text(found.get("status"))
        return DONE if status.lower() == "online" else Outcome(f"ONU {device.identity} is not online ({status})")

    async def switch_off(self, device: LineDevice) -> Outcome:
        """Disable the ONU, unless other lines are on it."""
        if device.shared:
            return DONE
        try:
            await self._api.change("disable", device.identity)
        except SmartOltRefusalError:
            found = await self._find(device.identity)
            if found is not None and _is_enabled(found):
                await self._change("disable", found)
        return DONE

    async def set_speed(self, device: LineDevice) -> Outcome:
        """Give the ONU the speed profile of the line."""
        profiles = self._profiles(device)
        try:
            await self._api.change("update_onu_speed_profiles", device.identity, profiles)
        except SmartOltRefusalError:
            found = await self._find(device.identity)
            if found is None:
                raise DeviceNotSeenError(f"ONU {device.identity} is not authorized in SmartOLT yet") from None
            await self._change("update_onu_speed_profiles", found, profiles)
        return DONE

    async def _authorize(self, device: LineDevice, place: _Place, discovered: Record) -> str | None:
        """Authorize a discovered ONU. Return SmartOLT's refusal, and None where there is none."""
        seen = replace(_Place.of(discovered), olt_id=place.olt_id, vlan=place.vlan)
        if not seen.agrees_with(place):
            raise ControllerRefusedError(
                f"{device.olt} has discovered ONU {device.identity} at board {seen.board}, port {seen.port}, and the "
                f"order says PON port {device.pon_port}. Correct the order, or connect the ONU there."
            )
        onu_type = device.onu_type or _text(discovered.get("onu_type_name"))
        if not onu_type:
            raise ControllerRefusedError(
                f"SmartOLT does not know the type of ONU {device.identity}: give it in the order (`onu_type`)."
            )
        form = {
            "olt_id": place.olt_id,
            "pon_type": self._options.pon_type,
            "board": place.board or seen.board,
            "port": place.port or seen.port,
            "sn": device.identity,
            "onu_type": onu_type,
            "onu_mode": self._options.onu_mode,
            "zone": self._options.zone,
            "name": device.subscriber_ref,
            "onu_external_id": device.identity,
        }
        try:
            await self._api.authorize(form | _vlans(device) | self._profiles(device))
        except SmartOltRefusalError as refusal:
            return str(refusal)
        return None

    async def _move(self, device: LineDevice, place: _Place, found: Record, discovered: Record | None) -> Outcome:
        if _is_enabled(found):
            raise ControllerRefusedError(
                f"ONU {device.identity} is in service at {_Place.of(found)} in SmartOLT, and the order says {place}. "
                "Correct the order, or disable the ONU in SmartOLT."
            )
        await self._change("delete", found)
        if discovered is None:
            return Outcome(f"SmartOLT is discovering ONU {device.identity} again")
        if refusal := await self._authorize(device, place, discovered):
            raise ControllerRefusedError(f"SmartOLT does not authorize ONU {device.identity}: {refusal}")
        return DONE

    async def _find(self, serial: str) -> Record | None:
        """Return the authorized ONU."""
        found = await self._api.find(serial)
        if len(found) > 1:
            ids = ", ".join(sorted(_text(onu.get("unique_external_id")) for onu in found))
            raise AmbiguousDeviceError(
                f"SmartOLT has several ONUs with serial number {serial}: {ids}. Delete the wrong ones there."
            )
        return found[0] if found else None

    async def _change(self, action: str, onu: Record, form: dict[str, str] | None = None) -> None:
        """Change an authorized ONU by its own id, which is the serial number where Lastmile authorized it."""
        try:
            await self._api.change(action, str(onu.get("unique_external_id")), form)
        except SmartOltRefusalError as refusal:
            raise ControllerRefusedError(
                f"SmartOLT refuses {action} of ONU {_text(onu.get('sn'))}: {refusal}"
            ) from None

    def _profiles(self, device: LineDevice) -> dict[str, str]:
        profile = device.speed_profile or self._options.speed_profile
        return {"upload_speed_profile_name": profile, "download_speed_profile_name": profile}

    def _place(self, device: LineDevice) -> _Place:
        """Return the place of the order. Raises `ControllerRefusedError`."""
        olts = self._options.olts
        if device.olt is None or device.olt not in olts:
            named = f"SmartOLT's id of OLT {device.olt} is" if device.olt else "The OLT of the line is"
            raise ControllerRefusedError(
                f"{named} not known. The options of the controller (`olts`) have: {', '.join(sorted(olts))}."
            )
        vlan = _vlans(device)["vlan"]
        if device.pon_port is None:
            return _Place(str(olts[device.olt]), "", "", vlan)
        found = _PON_PORT.fullmatch(device.pon_port)
        if found is None:
            raise ControllerRefusedError(
                f"PON port {device.pon_port} of the order is not as SmartOLT needs it: board/port or "
                "frame/board/port, as in 0/1/4."
            )
        return _Place(str(olts[device.olt]), str(int(found[1])), str(int(found[2])), vlan)


def _vlans(device: LineDevice) -> dict[str, str]:
    """Return the VLANs of the line: one, or two that the OLT stacks. Raises `ControllerRefusedError`."""
    if device.c_vlan is not None and device.s_vlan is not None:
        stacked = {"svlan": str(device.s_vlan), "cvlan": str(device.c_vlan), "tag_transform_mode": "translate-and-add"}
        return {"vlan": str(device.c_vlan), **stacked}
    vlan = device.c_vlan if device.c_vlan is not None else device.s_vlan
    if vlan is None:
        raise ControllerRefusedError(
            f"The line of subscriber {device.subscriber_ref} has no VLAN. SmartOLT needs one: give `s_vlan`, `c_vlan` "
            "or both in the order."
        )
    return {"vlan": str(vlan)}


def _is_enabled(onu: Record) -> bool:
    """Raise `ControllerRefusedError` where SmartOLT says neither: an ONU in service must not be taken for another."""
    status = _text(onu.get("administrative_status")).lower()
    if status not in ("enabled", "disabled"):
        raise ControllerRefusedError(
            f"SmartOLT says neither that ONU {_text(onu.get('sn'))} is enabled nor that it is disabled, but '{status}'."
        )
    return status == "enabled"


def _text(value: object) -> str:
    """Return a value of SmartOLT's for a comparison or a message; empty: there is none."""
    return "" if value is None else escape(str(value))[:100]
