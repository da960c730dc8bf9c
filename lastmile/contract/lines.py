"""The line that an order describes: customer, plan, access and devices."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lastmile.fields.devices import MacAddress, OnuSerial
from lastmile.fields.scalars import WholeNumber, any_case
from lastmile.fields.text import PRINTABLE, UNPADDED

__all__ = [
    "ConnectionType",
    "Customer",
    "Email",
    "Line",
    "Name",
    "Option82Policy",
    "Phone",
    "Reference",
    "ServicePlan",
    "TenantId",
    "Vlan",
]

# Both end up in workflow ids, user names and realms: nothing that any of those would have to escape.
TenantId = Annotated[str, Field(strict=True, pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
Reference = Annotated[str, Field(strict=True, max_length=64, pattern=r"^[A-Za-z0-9](?:\.?[A-Za-z0-9_-])*$")]
"""An opaque reference of the caller's, such as `S-1001`: letters, digits, `-`, `_` and single dots, at most 64."""

Vlan = Annotated[WholeNumber, Field(ge=1, le=4094)]
"""IEEE 802.1Q VLAN id; 0 and 4095 are reserved."""

Name = Annotated[str, Field(strict=True, min_length=1, max_length=200), PRINTABLE]
Email = Annotated[str, Field(strict=True, max_length=254, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$"), PRINTABLE]
Phone = Annotated[str, Field(strict=True, max_length=32, pattern=r"^\+?[0-9 ()./-]{3,}$")]
AgentOption = Annotated[str, Field(strict=True, min_length=1, max_length=253), PRINTABLE, UNPADDED]
"""A sub-option of DHCP option 82 (RFC 3046), as its text."""


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
    email: Email | None = None
    phone: Phone | None = None


# The widest RADIUS rate attribute holds kbit/s in 32 bits (`lastmile.radius.rates`). A larger number would wrap.
MAX_KBPS = 2**32 - 1


class ServicePlan(_Model):
    """What is sold."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    download_kbps: Annotated[WholeNumber, Field(ge=1, le=MAX_KBPS)]
    upload_kbps: Annotated[WholeNumber, Field(ge=1, le=MAX_KBPS)]
    price_ref: Reference | None = None
    """The billing system's own reference to the price."""


class Line(_Model):
    """The network side of a subscriber: how and where it is attached."""

    connection_type: Annotated[ConnectionType, BeforeValidator(any_case)]
    onu_serial: OnuSerial | None = None
    """One ONU has one line, or several of connection type `fttb`."""
    olt: Reference | None = None
    pon_port: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9/.:_-]{0,31}$")] | None = None
    cpe_mac: MacAddress | None = None
    s_vlan: Vlan | None = None
    c_vlan: Vlan | None = None
    circuit_id: AgentOption | None = None
    """Sub-option 1. Under policy `enforce` no other line has the same."""
    remote_id: AgentOption | None = None
    """Sub-option 2."""
    option82_policy: Annotated[Option82Policy, BeforeValidator(any_case)] = Option82Policy.LOG
