"""A prefix of either family, and the questions that Python's own two types answer only for one family at a time."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network, summarize_address_range

__all__ = ["Prefix", "as_prefix", "is_within", "prefixes_between"]

Prefix = IPv4Network | IPv6Network
"""An IPv4 or IPv6 prefix without host bits; an address is a prefix of length 32 or 128."""


def as_prefix(written: str | None) -> Prefix | None:
    """Read a prefix as PostgreSQL and NetBox write it; None stays None."""
    return None if written is None else ip_network(written)


def is_within(prefix: Prefix, space: Prefix) -> bool:
    """Return whether the prefix is the space or a part of it; False where the families differ."""
    if isinstance(prefix, IPv4Network):
        return isinstance(space, IPv4Network) and prefix.subnet_of(space)
    return isinstance(space, IPv6Network) and prefix.subnet_of(space)


def prefixes_between(first: IPv4Address | IPv6Address, last: IPv4Address | IPv6Address) -> Iterable[Prefix]:
    """Return the fewest prefixes that cover the addresses, of one family, from the first to the last."""
    if isinstance(first, IPv4Address) and isinstance(last, IPv4Address):
        return summarize_address_range(first, last)
    assert isinstance(first, IPv6Address)
    assert isinstance(last, IPv6Address)
    return summarize_address_range(first, last)
