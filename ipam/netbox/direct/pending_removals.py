"""Pending removals: NetBox records of direct pools that must be deleted once they are due (table `netbox_removals`).

The transaction that releases a delegation writes its pending removal, so that no crash loses it. The record of a
released prefix stays in NetBox, deprecated, until the quarantine ends. A removal without a quarantine is due after an
hour: a request that a client gave up on may wait in NetBox for a lock, and create a record after the release has looked
for one.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool, find_record
from lastmile.db import Database, PlatformConnection

__all__ = ["LATE", "due", "remove_due"]

LATE = timedelta(hours=1)
"""The longest time after which NetBox may still carry out a request that the client gave up on."""

_DUE = text(
    """
    SELECT r.tenant_id, r.allocation_key, r.netbox_id, r.pool_id, p.name, p.space, p.delegated_length, p.mode,
           p.prefix_id, p.vrf_id, p.on_release, p.record, p.block_length, EXISTS (
        SELECT FROM delegations d WHERE d.tenant_id = r.tenant_id AND d.allocation_key = r.allocation_key
                                    AND d.released_at IS NULL) AS held
    FROM netbox_removals r JOIN pool_bindings p ON p.pool_id = r.pool_id
    WHERE r.due_at <= now() AND (CAST(:pool_id AS bigint) IS NULL OR r.pool_id = :pool_id)
    ORDER BY r.due_at, r.allocation_key, r.tenant_id, r.pool_id OFFSET :skip LIMIT :most
    """
)
_HOW_MANY = text("SELECT count(*) FROM netbox_removals WHERE due_at <= now()")

_DONE = text("DELETE FROM netbox_removals WHERE tenant_id = :tenant AND allocation_key = :key AND pool_id = :pool_id")


@dataclass(frozen=True, slots=True)
class _Removal:
    tenant: str
    key: str
    netbox_id: int | None
    pool: BoundPool
    held: bool
    """The delegation lives in another pool now, with the same key: the record found by it is in use."""


async def due(connection: PlatformConnection) -> int:
    """Return the number of removals that are due."""
    return int(await connection.scalar(_HOW_MANY) or 0)


async def remove_due(
    database: Database, netbox: NetBox, *, most: int, pool: BoundPool | None = None, skip: int = 0
) -> int:
    """Delete from NetBox what is due, the oldest first, after `skip` of them; of one pool, or of all.

    Returns the number of removals done, at most `most`. Can be interrupted at any moment, and called concurrently.
    Raises `NetBoxError`.
    """
    async with database.platform() as connection:
        rows = await connection.execute(_DUE, {"most": most, "skip": skip, "pool_id": pool and pool.id})
        found = [
            _Removal(row.tenant_id, row.allocation_key, row.netbox_id, BoundPool.of(row), row.held) for row in rows
        ]
    for one in found:
        record = None if one.held else await find_record(netbox, one.pool, one.key, one.netbox_id)
        if record is not None:
            await netbox.delete(record.id)
        async with database.platform() as connection:
            await connection.execute(_DONE, {"tenant": one.tenant, "key": one.key, "pool_id": one.pool.id})
    return len(found)
