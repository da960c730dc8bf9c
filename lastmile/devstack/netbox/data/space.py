"""The sorted prefixes of each VRF, for a fast search of children, parents and duplicates."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator

from lastmile.devstack.netbox.model.networks import Network, free_ranges

__all__ = ["Space"]

Vrf = int | None
"""A VRF's id; None is the global table."""


class Space:
    """The prefixes of every VRF: each has its network, its VRF and the id of its object."""

    def __init__(self) -> None:
        self._sorted: dict[Vrf, list[tuple[Network, int]]] = {}
        self._lengths: dict[Vrf, Counter[int]] = {}

    def add(self, vrf: Vrf, network: Network, key: int) -> None:
        insort(self._sorted.setdefault(vrf, []), (network, key))
        self._lengths.setdefault(vrf, Counter())[network.length] += 1

    def remove(self, vrf: Vrf, network: Network, key: int) -> None:
        entries = self._sorted[vrf]
        del entries[bisect_left(entries, (network, key))]
        self._lengths[vrf][network.length] -= 1

    def same(self, vrf: Vrf, network: Network) -> list[int]:
        """Return the ids of the prefixes that equal this network, in order."""
        entries = self._sorted.get(vrf, [])
        found = entries[bisect_left(entries, (network, 0)) : bisect_right(entries, (network, 1 << 62))]
        return [key for _, key in found]

    def children(self, vrf: Vrf, parent: Network) -> int:
        """Return the number of prefixes inside `parent`, at any depth."""
        return sum(1 for _ in self._inside(vrf, parent))

    def depth(self, vrf: Vrf, network: Network) -> int:
        """Return the number of prefixes that contain `network`."""
        lengths = [n for n, count in self._lengths.get(vrf, Counter()).items() if count and n < network.length]
        return sum(len(self.same(vrf, network.supernet(length))) for length in lengths)

    def free(self, vrf: Vrf, parent: Network) -> tuple[list[tuple[int, int]], int]:
        """Return the free ranges of addresses inside `parent`, and the number of its children."""
        inside = list(self._inside(vrf, parent))
        return list(free_ranges(parent, ((child.first, child.last) for child in inside))), len(inside)

    def _inside(self, vrf: Vrf, parent: Network) -> Iterator[Network]:
        entries = self._sorted.get(vrf, [])
        begin = bisect_left(entries, (parent, 0))
        end = bisect_right(entries, (Network(parent.family, parent.last, 129), 0))
        return (network for network, _ in entries[begin:end] if network.length > parent.length)
