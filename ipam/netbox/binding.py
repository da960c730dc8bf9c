"""How a pool is bound to NetBox: its prefix and its records there."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.delegations import Delegation
from ipam.errors import InvalidPoolError
from ipam.modes import DelegatedMode, DirectMode, PoolMode, read_mode
from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.errors import NoNetBoxError
from ipam.netbox.reconcile.key_recovery import lost_its_key
from ipam.prefix import Prefix, is_within

__all__ = [
    "BoundPool",
    "bound_pools",
    "find_record",
    "pool_named",
    "pools_in_netbox",
    "require_netbox",
    "resolve_prefix",
]


_BY_ID = text("SELECT * FROM pool_bindings WHERE pool_id = ANY(:ids)")
_ALL = text("SELECT * FROM pool_bindings WHERE mode <> 'database' ORDER BY pool_id")
_BY_NAME = text("SELECT * FROM pool_bindings WHERE name = :name AND tenant_id IS NOT DISTINCT FROM :tenant")


@dataclass(frozen=True, slots=True)
class BoundPool:
    """A pool that is in NetBox, as its delegations need it."""

    id: int
    name: str
    prefix: Prefix
    length: int
    """Length of each allocated prefix, in bits."""
    netbox: DirectMode | DelegatedMode

    @classmethod
    def of(cls, row: Row[Any], mode: PoolMode | None = None) -> "BoundPool":
        """Make a pool from a row of the view `pool_bindings`; `mode` replaces its mode."""
        mode = mode or read_mode(row._mapping)
        assert isinstance(mode, DirectMode | DelegatedMode), f"pool {row.name} is not in NetBox"
        return cls(row.pool_id, row.name, ip_network(row.space), row.delegated_length, mode)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"

    def contains(self, record: NetBoxRecord) -> bool:
        """Return whether the record lies in the pool, in its VRF."""
        return record.vrf_id == self.netbox.vrf_id and is_within(record.prefix, self.prefix)

    def has(self, record: NetBoxRecord) -> bool:
        """Return whether the record is a prefix that the pool hands out."""
        return self.contains(record) and record.prefix.prefixlen == self.length

    def has_block(self, record: NetBoxRecord) -> bool:
        """Return whether the record can be a block of the pool, of today's block length or of an earlier one."""
        return self.contains(record) and self.prefix.prefixlen < record.prefix.prefixlen <= self.length


async def bound_pools(connection: AsyncConnection, delegations: Iterable[Delegation]) -> dict[int, BoundPool]:
    """Read the pools, by id, of delegations whose prefixes NetBox chooses."""
    rows = await connection.execute(_BY_ID, {"ids": list({delegation.pool_id for delegation in delegations})})
    return {row.pool_id: BoundPool.of(row) for row in rows}


async def pools_in_netbox(connection: AsyncConnection) -> list[BoundPool]:
    """Read every pool in NetBox that the connection may see."""
    return [BoundPool.of(row) for row in await connection.execute(_ALL)]


async def pool_named(connection: AsyncConnection, name: str, tenant: str | None) -> BoundPool:
    """Read a pool that exists, and is in NetBox."""
    return BoundPool.of((await connection.execute(_BY_NAME, {"name": name, "tenant": tenant})).one())


def require_netbox(netbox: NetBox | None, pool: BoundPool) -> NetBox:
    """Return the client of the NetBox that the pool is in. Raises `NoNetBoxError` where none is configured."""
    if netbox is None:
        raise NoNetBoxError(f"pool {pool} is kept in NetBox, and this worker has no NETBOX_URL and NETBOX_TOKEN")
    return netbox


async def resolve_prefix(netbox: NetBox, prefix: Prefix, vrf: str) -> tuple[int, int | None]:
    """Find NetBox's ids of a pool's prefix and of its VRF, which has the same name in both; "" is the global table.

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
            f"{prefix} in NetBox is a prefix that {found[0].subscriber_ref} holds, and cannot be a pool"
        )
    return found[0].id, vrf_id


async def find_record(
    netbox: NetBox, pool: BoundPool, key: str, netbox_id: int | None, *, to_stamp: Prefix | None = None
) -> NetBoxRecord | None:
    """Find the record that carries the key in NetBox: by its id, else by the key, in every VRF.

    A record of that id with another key, or with none, belongs to another user of NetBox by now. The exception is a
    record that has lost its key and has the prefix `to_stamp`: stamp it again, and do not delete it
    (`ipam.netbox.reconcile.key_recovery`). Raises `NetBoxError`.
    """
    record = None if netbox_id is None else await netbox.get(netbox_id)
    if record is not None and record.key == key:
        return record
    found = await netbox.find(key)
    if found is None and record is not None and lost_its_key(record, key, to_stamp, pool.netbox.vrf_id):
        return record
    return found
