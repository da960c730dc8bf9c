"""The two ways to find a CPE: by OUI, product class and serial number (TR-069), or by MAC address."""

import re
from typing import Any
from urllib.parse import unquote

from lastmile.devices.controllers import LineDevice
from lastmile.devices.errors import ControllerRefusedError

__all__ = ["device_query"]

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_OUI = re.compile("[0-9A-Fa-f]{6}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_]")


def device_query(device: LineDevice, mac_parameter: str) -> dict[str, Any]:
    """Return the query of the NBI that finds a CPE: by what identifies it in TR-069 where that is known.

    Args:
        mac_parameter: the parameter with the MAC address.

    Raises:
        ControllerRefusedError: the identity is neither a MAC address nor that of TR-069.
    """
    if device.oui is not None and device.serial is not None:
        return _by_parts([device.oui, *filter(None, [device.product_class]), device.serial])
    if _MAC.fullmatch(device.identity):
        # GenieACS compares text exactly, and CPEs write their address either way.
        return {"$or": [{mac_parameter: device.identity}, {mac_parameter: device.identity.upper()}]}
    parts = device.identity.split("-")
    if len(parts) not in (2, 3) or not _OUI.fullmatch(parts[0]) or not all(parts):
        raise ControllerRefusedError(
            f"The CPE {device.identity} is neither a MAC address nor OUI-ProductClass-SerialNumber. Write a hyphen "
            "inside the product class or the serial number as %2D, as in 00D09E-HGW%2D1-CPE000001."
        )
    return _by_parts([unquote(part) for part in parts])


def _by_parts(parts: list[str]) -> dict[str, Any]:
    """Build the id of the device as GenieACS does: it escapes all but ASCII letters, digits and `_`."""
    return {"_id": "-".join(_UNSAFE.sub(_escape, part) for part in parts)}


def _escape(character: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in character[0].encode())
