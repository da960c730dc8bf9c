"""How a pool is bound to NetBox: which prefix there it is, and what becomes of a record that is released."""

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from ipam.errors import InvalidPoolError
from ipam.netbox import NetBox

__all__ = ["AllocationMode", "Binding", "OnRelease", "ReportingScope", "locate"]


class AllocationMode(StrEnum):
    """Who chooses the prefixes of a pool that is in NetBox."""

    DIRECT = "direct"
    """NetBox, one by one (`available-prefixes`): people may take prefixes out of the same space."""
    DELEGATED = "delegated"
    """Lastmile, out of whole blocks that it takes from NetBox: at the speed of the database, NetBox there or not."""


class ReportingScope(StrEnum):
    """What NetBox is told of a delegated pool."""

    BLOCK = "block"
    """The blocks alone, and how full they are."""
    PREFIX = "prefix"
    """Each prefix too, a while after it was assigned: NetBox writes some ten a second."""


class OnRelease(StrEnum):
    """What happens in NetBox to the record of a prefix that is released."""

    DEPRECATE = "deprecate"
    """It stays, deprecated, as long as the prefix rests; NetBox gives it to nobody meanwhile."""
    DELETE = "delete"
    """It goes at once: NetBox may give the prefix to somebody else with its next answer."""


class Binding(BaseModel):
    """A pool's place in NetBox."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: AllocationMode
    prefix_id: int
    """NetBox's id of the prefix that is the pool."""
    vrf_id: int | None
    """None: NetBox's global table."""
    on_release: OnRelease = OnRelease.DEPRECATE
    record: ReportingScope | None = None
    """Of a delegated pool."""
    block_length: int | None = None
    """Length of each block of a delegated pool, in bits."""

    @model_validator(mode="after")
    def _delegated(self) -> Self:
        if self.mode is not AllocationMode.DELEGATED and (self.record or self.block_length):
            raise ValueError(f"only a delegated pool has blocks, and this one is {self.mode}")
        return self


async def locate(netbox: NetBox, prefix: IPv4Network | IPv6Network, vrf: str) -> tuple[int, int | None]:
    """NetBox's ids of a pool's prefix and of its VRF, which is named there as here; "" is the global table.

    Raises `InvalidPoolError` where NetBox has not exactly one of each, and `NetBoxError`.
    """
    vrf_id, where = None, "NetBox's global table"
    if vrf:
        where = f"VRF {vrf!r} of NetBox"
        named = [one async for one in netbox.wire.each("ipam/vrfs", name=vrf) if one["name"] == vrf]
        if len(named) != 1:
            raise InvalidPoolError(
                f"NetBox shows the token {len(named) or 'no'} VRFs named {vrf!r}: the pool's must be there, once"
            )
        vrf_id = named[0]["id"]
    found = [one async for one in netbox.records(vrf_id=vrf_id, prefix=prefix) if one.prefix == prefix]
    if not found:
        raise InvalidPoolError(
            f"the token sees no prefix {prefix} in {where}: make it there as a container, or let the token's "
            "permissions reach it"
        )
    if len(found) > 1:
        several = ", ".join(f"#{one.id}" for one in found)
        raise InvalidPoolError(f"{where} has prefix {prefix} more than once ({several}): delete all but one in NetBox")
    if found[0].key is not None:
        raise InvalidPoolError(
            f"{prefix} in NetBox is a prefix that {found[0].subscriber_ref} holds, and can be no pool"
        )
    return found[0].id, vrf_id
