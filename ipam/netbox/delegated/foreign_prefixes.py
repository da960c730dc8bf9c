"""What people have made inside our blocks in NetBox: never assigned, and named by the audit.

NetBox lets them, and tells nobody; so a keeper looks, every now and then, at what has changed. The slots that such a
prefix covers are out of reach (`free_at` is infinity) until it is gone, and rest then as after a session whose end
nobody confirmed.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

from sqlalchemy import text

from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.bound_pool import BoundPool
from ipam.netbox.delegated.blocks import Block, blocks_of, slot_range
from ipam.netbox.delegated.outbox import NEWS
from ipam.netbox.reconcile.key_recovery import lost_its_key
from lastmile.db import Database

__all__ = ["look"]

# NetBox's clock is another one, and a change is dated before it is committed.
MARGIN = timedelta(minutes=5)

# A record that carries a delegation's key, at its prefix, is the outbox's affair: also one that it has yet to delete.
_OURS = text(
    """
    SELECT d.allocation_key, d.prefix::text FROM unnest(CAST(:keys AS text[])) AS key
    JOIN delegations d ON d.tenant_id = split_part(key, '/', 1) AND d.allocation_key = key
    WHERE d.pool_id = :pool_id
    """
)

_NOTED = text(
    """
    SELECT r.netbox_id, r.key, lastmile_nth_prefix(p.prefix, p.delegated_length, r.slot)::text AS prefix
    FROM netbox_records r JOIN pools p ON p.id = r.pool_id
    WHERE r.pool_id = :pool_id AND r.netbox_id = ANY(:ids) AND r.key IS NOT NULL
    """
)

_KNOWN = text("SELECT netbox_id FROM netbox_foreign_prefixes WHERE pool_id = :pool_id")

_LOOKED_AT = text("SELECT id, looked_at, now() AS now FROM netbox_blocks WHERE pool_id = :pool_id AND state = 'open'")

_HERE = text(
    """
    INSERT INTO netbox_foreign_prefixes (pool_id, netbox_id, tenant_id, prefix, description, first_slot, end_slot)
    SELECT id, :netbox_id, tenant_id, CAST(:prefix AS cidr), :description, :first, :end FROM pools WHERE id = :pool_id
    ON CONFLICT (pool_id, netbox_id) DO UPDATE
    SET prefix = excluded.prefix, description = excluded.description,
        first_slot = excluded.first_slot, end_slot = excluded.end_slot
    """
)

_GONE = text("DELETE FROM netbox_foreign_prefixes WHERE pool_id = :pool_id AND netbox_id = ANY(:gone)")

# Not what a subscriber holds: the audit tells of that, and its release comes by here again. What rested there rests no
# more, and goes out of NetBox.
_OUT_OF_REACH = text(
    f"""
    WITH theirs AS (
        UPDATE slots s SET free_at = 'infinity', last_holder = NULL
        FROM netbox_foreign_prefixes n
        WHERE n.pool_id = :pool_id AND s.pool_id = n.pool_id AND s.slot >= n.first_slot AND s.slot < n.end_slot
          AND s.delegation_id IS NULL AND s.free_at < 'infinity'
        RETURNING s.pool_id, s.slot
    )
    UPDATE netbox_records r SET {NEWS} FROM theirs WHERE r.pool_id = theirs.pool_id AND r.slot = theirs.slot
    """
)

_IN_REACH = text(
    """
    UPDATE slots s SET free_at = now() + CAST(:rest AS interval)
    WHERE pool_id = :pool_id AND delegation_id IS NULL AND free_at = 'infinity' AND NOT EXISTS (
        SELECT FROM netbox_foreign_prefixes n
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
    here: dict[int, NetBoxRecord] = {}
    for row in times:
        changed = await _changed_in(netbox, pool, blocks[row.id], row.looked_at)
        here |= {one.id: one for one in await _strangers(database, pool, [blocks[row.id]], changed)}
    before = [one for id in known - here.keys() if (one := await netbox.get(id)) is not None]
    gone = list(known - here.keys() - {one.id for one in await _strangers(database, pool, blocks.values(), before)})
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


async def _changed_in(netbox: NetBox, pool: BoundPool, block: Block, looked_at: Any) -> list[NetBoxRecord]:
    """What NetBox has in this block, of what has changed since."""
    since = None if looked_at is None else looked_at - MARGIN
    return [one async for one in netbox.records(vrf_id=pool.netbox.vrf_id, within=block.prefix, updated_since=since)]


async def _strangers(
    database: Database, pool: BoundPool, blocks: Iterable[Block], records: Sequence[NetBoxRecord]
) -> list[NetBoxRecord]:
    """Those that are a person's, and inside one of the blocks."""
    # A block that a person has made smaller is still ours.
    spaces: list[tuple[str, Any]] = [(block.key, block.prefix) for block in blocks if block.prefix is not None]
    inside = [
        one
        for one in records
        if one.vrf_id == pool.netbox.vrf_id
        and any(one.key != key and one.prefix != space and one.prefix.subnet_of(space) for key, space in spaces)
    ]
    keys = [one.key for one in inside if one.key is not None]
    without = {one.id: one for one in inside if one.key is None}
    async with database.platform() as connection:
        rows = await connection.execute(_OURS, {"pool_id": pool.id, "keys": keys})
        ours = {(row.allocation_key, row.prefix) for row in rows}
        noted = (await connection.execute(_NOTED, {"pool_id": pool.id, "ids": list(without)})).all()
    lost = {
        row.netbox_id
        for row in noted
        if lost_its_key(without[row.netbox_id], row.key, ip_network(row.prefix), pool.netbox.vrf_id)
    }
    return [one for one in inside if (one.key, str(one.prefix)) not in ours and one.id not in lost]
