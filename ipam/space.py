"""Address space that is not for subscribers, as the IANA special-purpose registries have it (RFC 6890)."""

from dataclasses import dataclass
from ipaddress import ip_network

from ipam.prefix import Prefix, is_within

__all__ = ["SpecialSpace", "special_space"]


@dataclass(frozen=True, slots=True)
class SpecialSpace:
    """A block of addresses, and whether a pool in it can make sense."""

    network: Prefix
    purpose: str
    source: str
    forceable: bool = False
    """A laboratory can use it; a subscriber's router drops or misreads the rest."""
    documentation: bool = False

    def __str__(self) -> str:
        return f"{self.network} ({self.purpose}, {self.source})"


def _never(network: str, purpose: str, source: str) -> SpecialSpace:
    return SpecialSpace(ip_network(network), purpose, source)


def _laboratory(network: str, purpose: str, source: str) -> SpecialSpace:
    return SpecialSpace(ip_network(network), purpose, source, forceable=True)


def _documentation(network: str, source: str) -> SpecialSpace:
    return SpecialSpace(ip_network(network), "documentation", source, forceable=True, documentation=True)


# Private space (RFC 1918), shared space (RFC 6598) and unique local addresses (RFC 4193) are for subscribers too.
_SPECIAL = (
    _never("0.0.0.0/8", "this network, unspecified", "RFC 791"),
    _never("127.0.0.0/8", "loopback", "RFC 1122"),
    _never("169.254.0.0/16", "link-local", "RFC 3927"),
    _laboratory("192.0.0.0/24", "IETF protocol assignments", "RFC 6890"),
    _documentation("192.0.2.0/24", "RFC 5737"),
    _laboratory("192.88.99.0/24", "6to4 relay anycast", "RFC 7526"),
    _laboratory("198.18.0.0/15", "benchmarking", "RFC 2544"),
    _documentation("198.51.100.0/24", "RFC 5737"),
    _documentation("203.0.113.0/24", "RFC 5737"),
    _never("224.0.0.0/4", "multicast", "RFC 5771"),
    _laboratory("240.0.0.0/4", "reserved", "RFC 1112"),
    _never("255.255.255.255/32", "limited broadcast", "RFC 919"),
    _never("::/128", "unspecified", "RFC 4291"),
    _never("::1/128", "loopback", "RFC 4291"),
    _never("::ffff:0:0/96", "IPv4-mapped", "RFC 4291"),
    _never("64:ff9b::/96", "IPv4-IPv6 translation", "RFC 6052"),
    _never("64:ff9b:1::/48", "IPv4-IPv6 translation", "RFC 8215"),
    _never("100::/64", "discard-only", "RFC 6666"),
    _laboratory("2001::/23", "IETF protocol assignments", "RFC 2928"),
    _documentation("2001:db8::/32", "RFC 3849"),
    _laboratory("2002::/16", "6to4", "RFC 3056"),
    _documentation("3fff::/20", "RFC 9637"),
    _never("fe80::/10", "link-local", "RFC 4291"),
    _never("fec0::/10", "site-local, deprecated", "RFC 3879"),
    _never("ff00::/8", "multicast", "RFC 4291"),
)

_UNICAST = (ip_network("0.0.0.0/0"), ip_network("2000::/3"), ip_network("fc00::/7"))


def special_space(prefix: Prefix) -> list[SpecialSpace]:
    """List the special blocks that the prefix overlaps; empty where the prefix is for subscribers."""
    found = [one for one in _SPECIAL if one.network.version == prefix.version and one.network.overlaps(prefix)]
    usable = any(is_within(prefix, one) for one in _UNICAST)
    if not found and not usable:
        found = [SpecialSpace(prefix, "outside the unicast space for subscribers", "RFC 4291", forceable=True)]
    return found


def unusable(prefix: Prefix, *, force: bool, demonstration: bool) -> str:
    """Say why no pool can be made of the prefix; empty where one can.

    `force` is for laboratories; a `demonstration` takes documentation space without it.
    """
    found = special_space(prefix)
    if not found or (demonstration and all(one.documentation for one in found)):
        return ""
    if force and all(one.forceable for one in found):
        return ""
    words = f"{prefix} is not for subscribers: it is in, or contains, {', '.join(map(str, found))}."
    if all(one.forceable for one in found):
        return f"{words} Choose a prefix of your own, or add --force in a laboratory."
    return f"{words} Choose a prefix of your own."
