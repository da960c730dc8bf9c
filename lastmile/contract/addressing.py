"""The addresses that a line can ask for, and the prefixes that they need."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lastmile.fields.scalars import IPv4Text, IPv6PrefixText, TrueOrFalse, WholeNumber, any_case

__all__ = ["DEFAULT_VRF", "LABEL", "Addressing", "IPv4Mode", "IPv6Mode", "Need", "Purpose", "VrfName", "vrf_words"]


LABEL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names of pools and regions."""

DEFAULT_VRF = ""
"""The VRF of a pool that names none: the global routing table."""

VrfName = Annotated[str, Field(max_length=100, pattern=r"^[!-~]([ -~]*[!-~])?$")]
"""The name of a VRF, as NetBox and the routers have it."""


def vrf_words(vrf: str) -> str:
    """Name the VRF in a message."""
    return "the default VRF" if vrf == DEFAULT_VRF else f"VRF {vrf!r}"


class Purpose(StrEnum):
    """What a prefix is for; a subscriber holds at most one prefix of each purpose, and two in an overlap."""

    IPV6_PD = "ipv6_pd"
    """Delegated to the CPE by DHCPv6-PD (RFC 8415), `Delegated-IPv6-Prefix` (RFC 4818)."""
    IPV6_FRAMED = "ipv6_framed"
    """The WAN link's own /64 for SLAAC, `Framed-IPv6-Prefix` (RFC 3162)."""
    IPV6_ADDRESS = "ipv6_address"
    """The WAN address by stateful DHCPv6, `Framed-IPv6-Address` (RFC 6911)."""
    IPV4 = "ipv4"
    """The WAN IPv4 address, `Framed-IP-Address` (RFC 2865)."""

    @property
    def family(self) -> int:
        return 4 if self is Purpose.IPV4 else 6

    @property
    def lengths(self) -> range:
        """Prefix lengths that a pool of this purpose can hand out."""
        return _LENGTHS[self]


_LENGTHS = {
    Purpose.IPV6_PD: range(48, 65),
    Purpose.IPV6_FRAMED: range(64, 65),
    Purpose.IPV6_ADDRESS: range(128, 129),
    Purpose.IPV4: range(32, 33),
}


class IPv4Mode(StrEnum):
    NONE = "none"
    DYNAMIC = "dynamic"
    """The NAS chooses from a pool of its own; Lastmile holds nothing."""
    STATIC = "static"
    """One address for the life of the line, from a Lastmile pool."""
    UNCHANGED = "unchanged"
    """For change_addressing: the line keeps what it has."""


class IPv6Mode(StrEnum):
    NONE = "none"
    SLAAC = "slaac"
    STATEFUL = "stateful"
    PD = "pd"
    DUAL_STACK = "dual_stack"
    """A delegated prefix beside an IPv4 address."""
    UNCHANGED = "unchanged"
    """For change_addressing: the line keeps what it has."""


_PURPOSES: dict[IPv6Mode, tuple[Purpose, ...]] = {
    IPv6Mode.NONE: (),
    IPv6Mode.SLAAC: (Purpose.IPV6_FRAMED,),
    IPv6Mode.STATEFUL: (Purpose.IPV6_ADDRESS,),
    IPv6Mode.PD: (Purpose.IPV6_PD,),
    IPv6Mode.DUAL_STACK: (Purpose.IPV6_PD,),
    IPv6Mode.UNCHANGED: (),
}


@dataclass(frozen=True, slots=True)
class Need:
    """One prefix that a line needs."""

    purpose: Purpose
    length: int
    pool: str | None = None
    region: str | None = None
    address: IPv4Address | IPv6Address | None = None
    """The first address of exactly the prefix to allocate; None: any free one."""
    vrf: str = DEFAULT_VRF

    def by_field(self) -> dict[str, Any]:
        """Return the values by field, as `dataclasses.asdict`, which copies each value and takes 20 times as long."""
        return {name: getattr(self, name) for name in self.__slots__}

    def needs(self) -> tuple["Need", ...]:
        """Return this one, as `Addressing.needs` returns all."""
        return (self,)


class Addressing(BaseModel):
    """The addresses that an order asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    enable_ipv6: TrueOrFalse = True
    ipv6_mode: Annotated[IPv6Mode, BeforeValidator(any_case)] = IPv6Mode.PD
    ipv6_pd_size: WholeNumber = Field(default=56, ge=48, le=64)
    """Length of the delegated prefix in bits; RIPE-690 advises /56 for homes and /48 for businesses."""
    ipv6_prefix: IPv6PrefixText | None = None
    """Exactly this prefix: the delegated one, the one of the WAN link (`slaac`), or the WAN address (`stateful`)."""
    ipv6_pool: str | None = Field(default=None, pattern=LABEL)
    ipv4_mode: Annotated[IPv4Mode, BeforeValidator(any_case)] = IPv4Mode.NONE
    ipv4_address: IPv4Text | None = None
    """With `static`: exactly this address. Without it any free one of the pool."""
    ipv4_pool: str | None = Field(default=None, pattern=LABEL)
    region: str | None = Field(default=None, pattern=LABEL)
    vrf: VrfName | None = None
    """The VRF that all addresses of the line are in. None: the default VRF."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ipv4_address is not None and self.ipv4_mode is not IPv4Mode.STATIC:
            raise ValueError("ipv4_address needs ipv4_mode 'static'")
        if self.ipv6_mode is IPv6Mode.DUAL_STACK and self.ipv4_mode is IPv4Mode.NONE:
            raise ValueError("ipv6_mode 'dual_stack' needs ipv4_mode 'dynamic' or 'static'")
        if self.ipv6_prefix is not None:
            lengths = [need.length for need in self.needs() if need.purpose.family == 6]
            if not lengths:
                raise ValueError("ipv6_prefix needs enable_ipv6, and an ipv6_mode other than 'none'")
            if self.ipv6_prefix.prefixlen != lengths[0]:
                raise ValueError(
                    f"ipv6_prefix is a /{self.ipv6_prefix.prefixlen}, but ipv6_mode '{self.ipv6_mode}' asks for a "
                    f"/{lengths[0]}" + (" (ipv6_pd_size)" if lengths[0] <= 64 else "")
                )
        if self.vrf is not None and not self.needs():
            raise ValueError("vrf needs an address from a Lastmile pool: IPv6, or ipv4_mode 'static'")
        return self

    def keeps(self, purpose: Purpose) -> bool:
        """Return whether the line keeps the prefix of the purpose that it has, if any."""
        if purpose is Purpose.IPV4:
            return self.ipv4_mode is IPv4Mode.UNCHANGED
        return self.enable_ipv6 and self.ipv6_mode is IPv6Mode.UNCHANGED

    def needs(self) -> tuple[Need, ...]:
        """The prefixes to allocate, in the order in which every order allocates them."""
        purposes = _PURPOSES[self.ipv6_mode] if self.enable_ipv6 else ()
        vrf = self.vrf or DEFAULT_VRF
        needs = [
            Need(
                purpose,
                self.ipv6_pd_size if purpose is Purpose.IPV6_PD else purpose.lengths[0],
                self.ipv6_pool,
                self.region,
                None if self.ipv6_prefix is None else self.ipv6_prefix.network_address,
                vrf,
            )
            for purpose in purposes
        ]
        if self.ipv4_mode is IPv4Mode.STATIC:
            needs.append(Need(Purpose.IPV4, 32, self.ipv4_pool, self.region, self.ipv4_address, vrf))
        return tuple(needs)
