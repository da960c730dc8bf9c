"""A pool that is kept in NetBox, as its delegations need it, and their records there."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.delegations import Delegation
from ipam.lifecycle import State
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import Binding
from ipam.netbox.reconcile.key_recovery import lost_its_key

__all__ = ["BOUND", "BoundPool", "bound_pools", "find_record", "pool_named", "pools_in_netbox", "stamp"]

BOUND = """p.id AS pool_id, p.name, p.prefix::text AS space, p.delegated_length, p.netbox_mode AS mode,
    p.netbox_prefix_id AS prefix_id, p.netbox_vrf_id AS vrf_id, p.netbox_release AS on_release,
    p.netbox_record AS record, p.netbox_block_length AS block_length"""
"""What to select of `pools p`."""

_BY_ID = text(f"SELECT {BOUND} FROM pools p WHERE p.id = ANY(:ids)")
_ALL = text(f"SELECT {BOUND} FROM pools p WHERE p.netbox_mode IS NOT NULL ORDER BY p.id")

_BY_NAME = text(f"SELECT {BOUND} FROM pools p WHERE name = :name AND tenant_id IS NOT DISTINCT FROM :tenant")


@dataclass(frozen=True, slots=True)
class BoundPool:
    id: int
    name: str
    prefix: IPv4Network | IPv6Network
    length: int
    """Of each prefix handed out, in bits."""
    netbox: Binding

    @classmethod
    def of(cls, row: Row[Any]) -> "BoundPool":
        """From a row of `BOUND`."""
        place = {field: getattr(row, field) for field in Binding.model_fields}
        return cls(row.pool_id, row.name, ip_network(row.space), row.delegated_length, Binding.model_validate(place))

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"

    def contains(self, recorded: NetBoxRecord) -> bool:
        """Whether it lies in the pool, in its VRF."""
        space: Any = self.prefix
        there = recorded.prefix
        return recorded.vrf_id == self.netbox.vrf_id and there.version == space.version and there.subnet_of(space)

    def has(self, recorded: NetBoxRecord) -> bool:
        """Whether this is a prefix that the pool hands out."""
        return self.contains(recorded) and recorded.prefix.prefixlen == self.length

    def has_block(self, recorded: NetBoxRecord) -> bool:
        """Whether this can be a block of the pool, of the length that blocks have now or had before."""
        return self.contains(recorded) and self.prefix.prefixlen < recorded.prefix.prefixlen <= self.length


async def bound_pools(connection: AsyncConnection, delegations: Iterable[Delegation]) -> dict[int, BoundPool]:
    """The pools, by id, of delegations whose prefixes are chosen by NetBox."""
    rows = await connection.execute(_BY_ID, {"ids": list({delegation.pool_id for delegation in delegations})})
    return {row.pool_id: BoundPool.of(row) for row in rows}


async def pools_in_netbox(connection: AsyncConnection) -> list[BoundPool]:
    """Every pool that is kept in NetBox, of those that the connection may see."""
    return [BoundPool.of(row) for row in await connection.execute(_ALL)]


async def pool_named(connection: AsyncConnection, name: str, tenant: str | None) -> BoundPool:
    """A pool that is there, and in NetBox."""
    return BoundPool.of((await connection.execute(_BY_NAME, {"name": name, "tenant": tenant})).one())


def stamp(tenant: str, delegation: Delegation, state: State) -> Stamp:
    """What NetBox is told about the delegation."""
    held = "rests, and was" if state is State.REVOKED else "is"
    return Stamp(
        key=delegation.key,
        subscriber_ref=delegation.subscriber_ref,
        state=state,
        tenant=tenant,
        description=f"{held} {delegation.subscriber_ref}'s (Lastmile)",
    )


async def find_record(
    netbox: NetBox,
    pool: BoundPool,
    key: str,
    netbox_id: int | None,
    *,
    to_stamp: IPv4Network | IPv6Network | None = None,
) -> NetBoxRecord | None:
    """What carries the key in NetBox: where its id says, else anywhere, in every VRF.

    A record of that id that carries another key, or none, was made over by a person: it is not ours any more. But with
    the prefix that it is `to_stamp` for, one that has lost its key counts: do not delete it
    (`ipam.netbox.reconcile.key_recovery`).
    """
    record = None if netbox_id is None else await netbox.get(netbox_id)
    if record is not None and record.key == key:
        return record
    found = await netbox.find(key)
    if found is None and record is not None and lost_its_key(record, key, to_stamp, pool.netbox.vrf_id):
        return record
    return found
