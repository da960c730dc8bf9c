"""Exclusions: parts of a pool that are never handed out, as an operator writes them and as ranges of slots."""

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from ipam.prefix import Prefix, prefixes_between

__all__ = ["merged", "read_networks", "read_slots", "slot_ranges", "within", "without"]


def read_networks(written: Any) -> Any:
    """Read prefixes, addresses and ranges of addresses (`198.51.100.1-198.51.100.9`). Raises `ValueError`."""
    return [network for one in written for network in (_read(one) if isinstance(one, str) else [one])]


def _read(written: str) -> Iterable[Prefix]:
    first, dash, last = written.partition("-")
    if not dash:
        return [ip_network(written)]
    begin, end = ip_address(first.strip()), ip_address(last.strip())
    if begin.version != end.version or int(begin) > int(end):
        raise ValueError(f"{written} is not a range: write the first address, a dash and the last address")
    return prefixes_between(begin, end)


def merged(slots: Iterable[range]) -> list[range]:
    """Return the same slots in order, as ranges that neither overlap nor touch."""
    found: list[range] = []
    for one in sorted(slots, key=lambda one: one.start):
        if found and one.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(one.stop, found[-1].stop))
        else:
            found.append(one)
    return found


def within(slots: Iterable[range], bounds: range) -> list[range]:
    """Return the parts that lie within the bounds."""
    cut = (range(max(one.start, bounds.start), min(one.stop, bounds.stop)) for one in slots)
    return [one for one in cut if one]


def without(slots: range, others: Iterable[range]) -> list[range]:
    """Return the parts that are in none of the others, which are in order."""
    parts, start = [], slots.start
    for other in others:
        if other.stop <= start or other.start >= slots.stop:
            continue
        parts.append(range(start, max(start, other.start)))
        start = other.stop
    return [part for part in (*parts, range(start, slots.stop)) if part]


def slot_ranges(slots: Iterable[range]) -> str:
    """Write the slots as a PostgreSQL `int8multirange`."""
    return "{" + ",".join(f"[{one.start},{one.stop})" for one in slots) + "}"


def read_slots(written: str) -> list[range]:
    """Read a PostgreSQL `int8multirange`."""
    return [range(int(first), int(end)) for first, end in re.findall(r"\[(\d+),(\d+)\)", written)]
