"""Times, numbers and VRFs as messages write them."""

from datetime import UTC, datetime

__all__ = ["count_of", "format_time", "in_vrf"]


def format_time(moment: datetime | None) -> str:
    """Write a time in UTC, in whole seconds; None gives an empty text."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def count_of(number: int, one: str, several: str) -> str:
    """Write a number with its noun: 1 prefix, 4,096 prefixes."""
    return f"{number:,} {one if number == 1 else several}"


def in_vrf(vrf: str | None) -> str:
    """Write the VRF after an address; empty for the default VRF."""
    return f" in VRF {vrf}" if vrf else ""
