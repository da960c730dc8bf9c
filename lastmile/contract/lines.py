"""The line that an order describes: customer, plan, access and devices."""

import re
from enum import StrEnum
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from lastmile.fields.devices import DeviceText, Duid, MacAddress, OnuSerial, Oui
from lastmile.fields.scalars import WholeNumber, any_case
from lastmile.fields.stored import is_stored
from lastmile.fields.text import GENERATED_ONLY, PRINTABLE, UNPADDED, USERNAME, looks_generated

__all__ = [
    "LINE_DEVICES",
    "Access",
    "AgentOption",
    "ConnectionType",
    "Customer",
    "DeviceFields",
    "Email",
    "IpoeIdentity",
    "Line",
    "Name",
    "Option82Policy",
    "Phone",
    "PonPort",
    "Reference",
    "ServicePlan",
    "TenantId",
    "Vlan",
    "check_cpe_names",
    "tr069_identity",
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

PonPort = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9/.:_-]{0,31}$")]
"""A port of an OLT, as the OLT names it."""

Username = Annotated[str, Field(strict=True, min_length=1, max_length=253), PRINTABLE, UNPADDED, USERNAME]
"""A RADIUS user name, as the BNG sends it."""


class Access(StrEnum):
    """How the CPE logs in."""

    PPPOE = "pppoe"
    """With user name and password (RFC 2516)."""
    IPOE = "ipoe"
    """Without a password: the BNG sends what identifies the line as the user name."""


class IpoeIdentity(StrEnum):
    """What a BNG sends as the user name of an IPoE line."""

    MAC = "mac"
    CIRCUIT_ID = "circuit_id"
    CIRCUIT_AND_REMOTE_ID = "circuit_and_remote_id"
    """Both, with a dot between them."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the line whose values make the user name."""
        return _IDENTITY_FIELDS[self]


_IDENTITY_FIELDS = {
    IpoeIdentity.MAC: ("cpe_mac",),
    IpoeIdentity.CIRCUIT_ID: ("circuit_id",),
    IpoeIdentity.CIRCUIT_AND_REMOTE_ID: ("circuit_id", "remote_id"),
}


class ConnectionType(StrEnum):
    FTTH = "ftth"
    FTTB = "fttb"
    WIRELESS = "wireless"
    HYBRID = "hybrid"


class Option82Policy(StrEnum):
    """What to do with a login whose circuit id or remote id is not that of the line (RFC 3046, RFC 4679)."""

    ENFORCE = "enforce"
    """RADIUS refuses the login."""
    LOG = "log"
    """RADIUS accepts the login, and the audit reports the login."""
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
    onu_type: DeviceText | None = None
    """The type of the ONU, as the OLT controller names it."""
    speed_profile: DeviceText | None = None
    """The profile of the OLT that has the rates of the plan. None: the controller sets the rates of the plan."""
    olt: Reference | None = None
    pon_port: PonPort | None = None
    cpe_mac: MacAddress | None = None
    cpe_oui: Oui | None = None
    """TR-069 identifies a CPE by its OUI, product class and serial number. A CPE has one line."""
    cpe_product_class: DeviceText | None = None
    """None: the CPE reports none."""
    cpe_serial: DeviceText | None = None
    duid: Duid | None = None
    """The DUID of the CPE. A DUID has one line."""
    s_vlan: Vlan | None = None
    c_vlan: Vlan | None = None
    circuit_id: AgentOption | None = None
    """Sub-option 1. Under policy `enforce` no other line has the same."""
    remote_id: AgentOption | None = None
    """Sub-option 2."""
    option82_policy: Annotated[Option82Policy, BeforeValidator(any_case)] = Option82Policy.LOG
    access: Annotated[Access, BeforeValidator(any_case)] = Access.PPPOE
    identified_by: Annotated[IpoeIdentity, BeforeValidator(any_case)] | None = None
    """The fields whose values are the user name of an `ipoe` line. None: `username` is the user name."""
    username: Username | None = None
    """The user name that the BNG sends. None: the user name follows from `identified_by`, or is generated."""

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        if is_stored(info):
            return self
        check_cpe_names(self.cpe_oui, self.cpe_product_class, self.cpe_serial)
        if self.access is Access.PPPOE and self.identified_by is not None:
            raise ValueError("identified_by needs access 'ipoe'")
        if self.access is Access.IPOE and (self.identified_by is None) == (self.username is None):
            raise ValueError(
                "access 'ipoe' needs identified_by 'mac', 'circuit_id' or 'circuit_and_remote_id', "
                "or else the username that the BNG sends"
            )
        if self.identified_by is not None and None in self._identity:
            raise ValueError(f"identified_by '{self.identified_by}' needs {' and '.join(self.identified_by.fields)}")
        if self.identified_by is not None and looks_generated(self.login_name or ""):
            raise ValueError(
                f"identified_by '{self.identified_by}' makes the user name {self.login_name}. "
                f"A user name {GENERATED_ONLY}"
            )
        if self.option82_policy is Option82Policy.ENFORCE and self.circuit_id is None and self.remote_id is None:
            raise ValueError("option82_policy 'enforce' needs circuit_id or remote_id")
        return self

    @property
    def login_name(self) -> str | None:
        """The user name that the BNG sends; None: Lastmile generates the user name."""
        return self.username if self.identified_by is None else ".".join(map(str, self._identity))

    @property
    def cpe_identity(self) -> str | None:
        """The MAC address of the CPE, or else its identity in TR-069; None: the line has no CPE."""
        return self.cpe_mac or self.tr069_identity

    @property
    def tr069_identity(self) -> str | None:
        """The OUI, product class and serial number of the CPE; None: the line has none.

        They are joined as in the user name of a CPE (TR-069, section 3.4.4): `00D09E-HGW%2D1-CPE000001`.
        """
        if self.cpe_oui is None or self.cpe_serial is None:
            return None
        return tr069_identity(self.cpe_oui, self.cpe_product_class, self.cpe_serial)

    @property
    def _identity(self) -> list[str | None]:
        return [getattr(self, field) for field in self.identified_by.fields] if self.identified_by else []


class DeviceFields(NamedTuple):
    """The fields of a line that describe one of its devices."""

    names: tuple[tuple[str, ...], ...]
    """Each way to name the device, as the fields of that way. A device that is named so has the last of the fields."""
    other: tuple[str, ...]
    """The fields that say more of the device."""


LINE_DEVICES = (
    DeviceFields((("onu_serial",),), ("onu_type",)),
    DeviceFields((("cpe_mac",), ("cpe_oui", "cpe_product_class", "cpe_serial")), ("duid",)),
)
"""The ONU and the CPE of a line. A change to another device replaces all of its fields."""


def check_cpe_names(oui: str | None, product_class: str | None, serial: str | None) -> None:
    """Raise `ValueError` unless the fields name a CPE as TR-069 does: OUI and serial number, or no field at all."""
    if oui is not None and serial is None:
        raise ValueError("cpe_oui needs cpe_serial")
    if serial is not None and oui is None:
        raise ValueError("cpe_serial needs cpe_oui")
    if product_class is not None and serial is None:
        raise ValueError("cpe_product_class needs cpe_oui and cpe_serial")


def tr069_identity(oui: str, product_class: str | None, serial: str) -> str:
    """Return the names of a CPE as in its user name (TR-069, section 3.4.4)."""
    return "-".join([oui, *map(_percent_encode, filter(None, (product_class, serial)))])


def _percent_encode(text: str) -> str:
    """Escape all but letters, digits and `_` (RFC 3986), so that the hyphens between the parts are unique."""
    return re.sub("[^A-Za-z0-9_]", lambda found: f"%{ord(found[0]):02X}", text)
