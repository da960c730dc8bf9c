"""What people have made inside our blocks in NetBox: never assigned, and named by the audit.

NetBox lets them, and tells nobody; so a keeper looks, every now and then, at what has changed. The slots that such a
prefix covers are out of reach (`free_at` is infinity) until it is gone, and rest then as after a session whose end
nobody confirmed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from db import Database
from ipam.binding import Record
from ipam.blocks import Block, blocks_of, slot_range
from ipam.bound import BoundPool
from ipam.netbox import NetBox, Recorded

__all__ = ["look"]

# NetBox's clock is another one, and a change is dated before it is committed.
MARGIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Seen:
    here: list[Recorded]
    gone: list[int]
    """Ids of those that were here before."""


_KNOWN = text("SELECT netbox_id FROM netbox_strangers WHERE pool_id = :pool_id")

_LOOKED_AT = text("SELECT id, looked_at, now() AS now FROM netbox_blocks WHERE pool_id = :pool_id AND state = 'open'")

_HERE = text(
    """
    INSERT INTO netbox_strangers (pool_id, netbox_id, tenant_id, prefix, description, first_slot, end_slot)
    SELECT id, :netbox_id, tenant_id, CAST(:prefix AS cidr), :description, :first, :end FROM pools WHERE id = :pool_id
    ON CONFLICT (pool_id, netbox_id) DO UPDATE
    SET prefix = excluded.prefix, description = excluded.description,
        first_slot = excluded.first_slot, end_slot = excluded.end_slot
    """
)

_GONE = text("DELETE FROM netbox_strangers WHERE pool_id = :pool_id AND netbox_id = ANY(:gone)")

# Not what a subscriber holds: the audit tells of that, and its release comes by here again.
_OUT_OF_REACH = text(
    """
    UPDATE slots s SET free_at = 'infinity', last_holder = NULL
    FROM netbox_strangers n
    WHERE n.pool_id = :pool_id AND s.pool_id = n.pool_id AND s.slot >= n.first_slot AND s.slot < n.end_slot
      AND s.delegation_id IS NULL AND s.free_at < 'infinity'
    """
)

_IN_REACH = text(
    """
    UPDATE slots s SET free_at = now() + CAST(:rest AS interval)
    WHERE pool_id = :pool_id AND delegation_id IS NULL AND free_at = 'infinity' AND NOT EXISTS (
        SELECT FROM netbox_strangers n
        WHERE n.pool_id = s.pool_id AND s.slot >= n.first_slot AND s.slot < n.end_slot)
    """
)

_LOOKED = text("UPDATE netbox_blocks SET looked_at = :now WHERE id = ANY(:ids)")


async def look(database: Database, netbox: NetBox, pool: BoundPool, rest: timedelta) -> None:
    """See what people have in the pool's blocks by now. By one at a time. Raises `NetBoxError`."""
    place = {"pool_id": pool.id}
    async with database.platform() as connection:
        blocks = {block.id: block for block in await blocks_of(connection, pool)}
        times = (await connection.execute(_LOOKED_AT, place)).all()
        known = set(await connection.scalars(_KNOWN, place))
    here = {one.id: one for row in times for one in await _made_in(netbox, pool, blocks[row.id], row.looked_at)}
    gone = [id for id in known - here.keys() if not _stranger(pool, blocks.values(), await netbox.get(id))]
    async with database.platform() as connection:
        for one in here.values():
            first, end = slot_range(pool, one.prefix)
            values = {"netbox_id": one.id, "prefix": str(one.prefix), "description": one.description}
            await connection.execute(_HERE, place | values | {"first": first, "end": end})
        await connection.execute(_GONE, place | {"gone": gone})
        await connection.execute(_OUT_OF_REACH, place)
        await connection.execute(_IN_REACH, place | {"rest": rest})
        if times:
            await connection.execute(_LOOKED, {"now": times[0].now, "ids": [row.id for row in times]})


async def _made_in(netbox: NetBox, pool: BoundPool, block: Block, looked_at: Any) -> list[Recorded]:
    """The strangers in this block, of what has changed since."""
    since = None if looked_at is None else looked_at - MARGIN
    found = netbox.records(vrf_id=pool.netbox.vrf_id, within=block.prefix, updated_since=since)
    return [one async for one in found if _stranger(pool, [block], one)]


def _stranger(pool: BoundPool, blocks: Iterable[Block], record: Recorded | None) -> bool:
    """Whether this is a person's, and inside one of the blocks."""
    if record is None or record.vrf_id != pool.netbox.vrf_id:
        return False
    if record.key is not None and pool.netbox.record is Record.PREFIX:
        return False
    prefix: Any = record.prefix
    # A block that a person has made smaller is still ours.
    return any(
        block.prefix is not None
        and block.key != record.key
        and prefix != block.prefix
        and prefix.subnet_of(block.prefix)
        for block in blocks
    )
