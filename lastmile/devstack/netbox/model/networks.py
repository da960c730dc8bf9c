"""Arithmetic of prefixes: containment, and free space inside a prefix."""

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Network", "cidrs", "free_ranges", "take"]

_BITS = {4: 32, 6: 128}


class Network(NamedTuple):
    """An IPv4 or IPv6 prefix. Prefixes sort as PostgreSQL's `inet`: by family, address and length."""

    family: int
    first: int
    """The lowest address."""
    length: int

    @classmethod
    @lru_cache(maxsize=100_000)  # every request for a list sorts all its networks
    def parse(cls, text: str) -> "Network":
        """Parse a prefix and clear its host bits. An address without a length is a prefix of full length.

        Raises:
            ValueError: the text is not a prefix.
        """
        network = ipaddress.ip_network(text.strip(), strict=False)
        return cls(network.version, int(network.network_address), network.prefixlen)

    @property
    def last(self) -> int:
        """Return the highest address."""
        return self.first + (1 << (_BITS[self.family] - self.length)) - 1

    def contains(self, other: "Network") -> bool:
        """Return whether `other` is inside this prefix or equal to it."""
        return (
            self.family == other.family
            and self.length <= other.length
            and self.first <= other.first
            and other.last <= self.last
        )

    def supernet(self, length: int) -> "Network":
        """Return the prefix with the shorter `length` that contains this one."""
        host = _BITS[self.family] - length
        return Network(self.family, self.first >> host << host, length)

    def __str__(self) -> str:
        return f"{self.address(self.first)}/{self.length}"

    def address(self, number: int) -> str:
        """Return the address `number` of this family as text."""
        return str(ipaddress.IPv4Address(number) if self.family == 4 else ipaddress.IPv6Address(number))


def free_ranges(parent: Network, taken: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of addresses in `parent` outside the ranges `taken`, which are sorted by their beginning."""
    begin = parent.first
    for first, last in taken:
        if first > begin:
            yield begin, first - 1
        begin = max(begin, last + 1)
    if begin <= parent.last:
        yield begin, parent.last


def cidrs(family: int, ranges: Iterable[tuple[int, int]]) -> Iterator[Network]:
    """Yield the largest prefixes that fill the ranges, in order."""
    kind = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    for first, last in ranges:
        for network in ipaddress.summarize_address_range(kind(first), kind(last)):
            yield Network(family, int(network.network_address), network.prefixlen)


def take(free: list[Network], length: int) -> Network | None:
    """Remove a prefix of `length` from the first block in `free` that is large enough. Return None if none is."""
    for index, block in enumerate(free):
        if block.length <= length:
            taken = Network(block.family, block.first, length)
            rest = [
                Network(block.family, block.first + (1 << (_BITS[block.family] - part)), part)
                for part in range(length, block.length, -1)
            ]
            free[index : index + 1] = rest
            return taken
    return None
