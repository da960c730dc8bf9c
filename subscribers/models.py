"""What a subscriber's line is made of, as an order describes it. No I/O: workflows import this."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = [
    "PRINTABLE",
    "ConnectionType",
    "Customer",
    "Line",
    "MacAddress",
    "Option82Policy",
    "Reference",
    "ServicePlan",
    "TenantId",
    "Vlan",
]

# Both end up in workflow ids, user names and realms: nothing that any of those would have to escape.
TenantId = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
Reference = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9](?:\.?[A-Za-z0-9_-])*$")]
"""An opaque reference of the caller's, such as `S-1001`: letters, digits, `-`, `_` and single dots, at most 64."""

Vlan = Annotated[int, Field(ge=1, le=4094)]
"""IEEE 802.1Q VLAN id; 0 and 4095 are reserved."""

PRINTABLE = r"^[^\x00-\x1f]*$"
"""What a database, a log line and a terminal take as it is."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)]


def _normalise_mac(written: str) -> str:
    digits = re.sub(r"[.:-]", "", written).lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        raise ValueError("a MAC address has 12 hexadecimal digits, as in 00:1a:2b:3c:4d:5e")
    if int(digits[:2], 16) & 1:
        raise ValueError("this is a multicast MAC address; a CPE has a unicast one")
    if digits == "0" * 12:
        raise ValueError("the all-zeros MAC address belongs to no CPE")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


MacAddress = Annotated[str, AfterValidator(_normalise_mac)]
"""IEEE 802 MAC address, normalised to `00:1a:2b:3c:4d:5e`."""


class ConnectionType(StrEnum):
    FTTH = "ftth"
    FTTB = "fttb"
    WIRELESS = "wireless"
    HYBRID = "hybrid"


class Option82Policy(StrEnum):
    """What to do when the DHCP relay's option 82 (RFC 3046) is not the one expected."""

    ENFORCE = "enforce"
    LOG = "log"
    IGNORE = "ignore"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Customer(_Model):
    """Who pays. One customer can have several subscribers (lines)."""

    ref: Reference
    name: Name
    email: (
        Annotated[str, Field(max_length=254, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\.[^@\s\x00-\x1f]+$")] | None
    ) = None
    phone: Annotated[str, Field(max_length=32, pattern=r"^\+?[0-9 ()/-]{3,}$")] | None = None


# The widest RADIUS rate attribute holds kbit/s in 32 bits (`radius.rates`). A larger number would wrap to a slow line.
MAX_KBPS = 2**32 - 1


class ServicePlan(_Model):
    """What is sold."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    download_kbps: Annotated[int, Field(ge=1, le=MAX_KBPS)]
    upload_kbps: Annotated[int, Field(ge=1, le=MAX_KBPS)]
    price_ref: Reference | None = None
    """The billing system's own reference to the price."""


class Line(_Model):
    """The network side of a subscriber: how and where it is attached."""

    connection_type: ConnectionType
    onu_serial: Annotated[str, Field(pattern=r"^[A-Za-z]{4}[0-9A-Fa-f]{8}$"), AfterValidator(str.upper)] | None = None
    """ITU-T G.984.3 serial number: four letters of the vendor, eight hexadecimal digits; normalised to capitals."""
    olt: Reference | None = None
    pon_port: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9/.:_-]{0,31}$")] | None = None
    cpe_mac: MacAddress | None = None
    s_vlan: Vlan | None = None
    c_vlan: Vlan | None = None
    circuit_id: Annotated[str, Field(min_length=1, max_length=253, pattern=PRINTABLE)] | None = None
    """DHCP option 82, sub-option 1 (RFC 3046)."""
    remote_id: Annotated[str, Field(min_length=1, max_length=253, pattern=PRINTABLE)] | None = None
    """DHCP option 82, sub-option 2 (RFC 3046)."""
    option82_policy: Option82Policy = Option82Policy.LOG
