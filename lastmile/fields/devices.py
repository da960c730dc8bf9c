"""Ids of devices, normalised from their usual notations."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from lastmile.fields.rules import rule_error

__all__ = ["DeviceText", "Duid", "MacAddress", "OnuSerial", "Oui", "normalise_oui"]

_MAC_RULE = (
    "must be a MAC address of 12 hexadecimal digits, in six, three or two groups with one separator, "
    "as in 00:1a:2b:3c:4d:5e or 001a.2b3c.4d5e"
)
_ONU_RULE = (
    "must be four letters of the vendor and eight hexadecimal digits, as in HWTC1A2B3C4D or HWTC-1A2B3C4D, "
    "or the same as 16 hexadecimal digits, as in 485754431A2B3C4D (ITU-T G.984.3)"
)
_OUI_RULE = "must be an OUI of six hexadecimal digits, as in 00D09E or 00-D0-9E"
_DUID_RULE = (
    "must be a DUID of 3 to 130 octets in hexadecimal digits, with one separator or none, "
    "as in 00:03:00:01:00:1a:2b:3c:4d:5e or 00030001001a2b3c4d5e (RFC 8415)"
)

_HEX = "[0-9A-Fa-f]"
_MACS: Sequence[re.Pattern[str]] = (
    re.compile(f"{_HEX}{{12}}"),
    re.compile(f"{_HEX}{{2}}([:.-]){_HEX}{{2}}(?:\\1{_HEX}{{2}}){{4}}"),
    re.compile(f"{_HEX}{{4}}([:.-]){_HEX}{{4}}\\1{_HEX}{{4}}"),
    re.compile(f"{_HEX}{{6}}[:.-]{_HEX}{{6}}"),
)
_OUI = re.compile(f"{_HEX}{{2}}([:-]?){_HEX}{{2}}\\1{_HEX}{{2}}")
# Two octets of the type, then 1 to 128 octets (RFC 8415, section 11.1).
_DUID = re.compile(f"{_HEX}{{2}}([:-]?){_HEX}{{2}}(?:\\1{_HEX}{{2}}){{1,128}}")
_SHORTENED = re.compile(r"[0-9](?:[.,][0-9]+)?E\+[0-9]+")
_ONU = re.compile(f"(?P<vendor>[A-Za-z]{{4}}|{_HEX}{{8}})[-:]?(?P<number>{_HEX}{{8}})")


def _mac(written: Any) -> str:
    if not isinstance(written, str) or not any(form.fullmatch(written) for form in _MACS):
        raise rule_error(_MAC_RULE)
    digits = re.sub(r"[.:-]", "", written).lower()
    if int(digits[:2], 16) & 1:
        raise rule_error("must be a unicast MAC address, since a CPE has no multicast address")
    if digits == "0" * 12:
        raise rule_error("must be the MAC address of a CPE: no device has the address 00:00:00:00:00:00")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


MacAddress = Annotated[str, BeforeValidator(_mac)]
"""IEEE 802 MAC address, normalised to `00:1a:2b:3c:4d:5e`."""


def _onu(written: Any) -> str:
    found = _ONU.fullmatch(written) if isinstance(written, str) else None
    if found is None:
        raise rule_error(_ONU_RULE)
    vendor, number = found["vendor"], found["number"]
    if len(vendor) == 8:
        vendor = bytes.fromhex(vendor).decode("latin-1")
        if not re.fullmatch("[A-Za-z]{4}", vendor):
            raise rule_error(f"{_ONU_RULE}; the first eight digits are the vendor's letters in ASCII")
    return (vendor + number).upper()


OnuSerial = Annotated[str, BeforeValidator(_onu)]
"""ITU-T G.984.3 serial number, normalised to `HWTC1A2B3C4D`: the vendor's letters, then eight hexadecimal digits."""


def normalise_oui(written: Any) -> str | None:
    """Return the OUI as TR-069 writes it; None where the value is no OUI."""
    if not isinstance(written, str) or not _OUI.fullmatch(written):
        return None
    return re.sub("[:-]", "", written).upper()


def _oui(written: Any) -> str:
    if (oui := normalise_oui(written)) is None:
        raise rule_error(_OUI_RULE)
    return oui


Oui = Annotated[str, BeforeValidator(_oui)]
"""IEEE organizationally unique identifier, normalised as TR-069 writes the OUI of a CPE's manufacturer: `00D09E`."""


def _duid(written: Any) -> str:
    if not isinstance(written, str) or not _DUID.fullmatch(written):
        raise rule_error(_DUID_RULE)
    digits = re.sub("[:-]", "", written).lower()
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


Duid = Annotated[str, BeforeValidator(_duid)]
"""DHCP unique identifier (RFC 8415, section 11), normalised as Kea writes it: `00:03:00:01:00:1a:2b:3c:4d:5e`."""


def _unshortened(text: str) -> str:
    if _SHORTENED.fullmatch(text):
        raise rule_error(
            "must be written out, and not as a spreadsheet shortens a long number: format the column as text"
        )
    return text


DeviceText = Annotated[str, Field(strict=True, pattern=r"^[!-~](?:[ -~]{0,62}[!-~])?$"), AfterValidator(_unshortened)]
"""A name or number of a device or a controller, such as a product class: 1 to 64 characters of printable ASCII."""
