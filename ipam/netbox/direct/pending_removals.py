"""What may not be in NetBox any more, once it is due (table `netbox_removals`).

Written in the transaction that releases a delegation, so no crash forgets it. A released prefix stays in NetBox,
deprecated, as long as it rests. And whatever was removed is looked for once more: a request that a client gave up on
may wait in NetBox for its lock, and be done after everybody had looked.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool, find_record
from lastmile.db import Database, PlatformConnection

__all__ = ["LATE", "due", "remove_due"]

LATE = timedelta(hours=1)
"""How long after a client has given up on it NetBox may still do what it was asked, at the very most."""

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
    """The delegation has come to live in another pool, and NetBox gives its key to nobody else."""


async def due(connection: PlatformConnection) -> int:
    """How many removals are due."""
    return int(await connection.scalar(_HOW_MANY) or 0)


async def remove_due(
    database: Database, netbox: NetBox, *, most: int, pool: BoundPool | None = None, skip: int = 0
) -> int:
    """Remove from NetBox what is due, the oldest but `skip` first, of one pool or of all; how many.

    Can be cut off at any moment, and two at once do no harm. Raises `NetBoxError`.
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
