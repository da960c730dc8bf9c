"""Foreign prefixes: what other users of NetBox created inside a pool's space. Lastmile never assigns them.

NetBox sends no notifications, so block maintenance reads from time to time what has changed in each block. The slots
that a foreign prefix covers are withheld (`free_at` is infinity) until it is gone. Then they stay in quarantine, as
after a session whose end no NAS confirmed. The audit reports foreign prefixes.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

from sqlalchemy import text

from ipam.allocation_key import AllocationKey
from ipam.errors import ForeignPrefixesError
from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.binding import BoundPool
from ipam.netbox.delegated.blocks import Block, blocks_of, slot_range
from ipam.netbox.reconcile.key_recovery import lost_its_key
from ipam.prefix import Prefix, is_within
from lastmile.db import Database

__all__ = ["check_no_conflict", "update_foreign_prefixes"]

# NetBox's clock may differ, and a change is dated before it is committed.
MARGIN = timedelta(minutes=5)

# A record that carries a delegation's key, at its prefix, is ours: also one that the outbox has yet to delete.
_OURS = text(
    """
    SELECT d.allocation_key, d.prefix::text
    FROM unnest(CAST(:keys AS text[]), CAST(:tenants AS text[])) carried (key, tenant)
    JOIN delegations d ON d.tenant_id = carried.tenant AND d.allocation_key = carried.key
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

# A slot that a subscriber holds is left alone: the audit reports it, and its release withholds it. A quarantine ends
# here, and the outbox deletes its record.
_OUT_OF_REACH = text(
    """
    WITH foreign_slots AS (
        UPDATE slots s SET free_at = 'infinity', last_holder = NULL
        FROM netbox_foreign_prefixes n
        WHERE n.pool_id = :pool_id AND s.pool_id = n.pool_id AND s.slot >= n.first_slot AND s.slot < n.end_slot
          AND s.delegation_id IS NULL AND s.free_at < 'infinity'
        RETURNING s.pool_id, s.slot
    )
    UPDATE netbox_records r SET (version, since, due_at) = (SELECT * FROM lastmile_due_again(r))
    FROM foreign_slots f WHERE r.pool_id = f.pool_id AND r.slot = f.slot
    """
)

_IN_REACH = text(
    """
    UPDATE slots s SET free_at = now() + CAST(:quarantine AS interval)
    WHERE pool_id = :pool_id AND delegation_id IS NULL AND free_at = 'infinity' AND NOT EXISTS (
        SELECT FROM netbox_foreign_prefixes n
        WHERE n.pool_id = s.pool_id AND s.slot >= n.first_slot AND s.slot < n.end_slot)
    """
)

_LOOKED = text("UPDATE netbox_blocks SET looked_at = :now WHERE id = ANY(:ids)")


PAGE = 500
MOST_NAMED = 5

# A container around a prefix only groups. Our records, of any delegation or block, carry its key.
_HELD = text(
    """
    SELECT r.prefix::text, d.subscriber_ref, d.prefix::text AS held
    FROM unnest(CAST(:prefixes AS cidr[]), CAST(:keys AS text[]), CAST(:grouping AS boolean[]))
         r (prefix, key, grouping_)
    JOIN delegations d ON d.prefix && r.prefix
    WHERE d.pool_id = :pool_id AND d.released_at IS NULL AND NOT (r.grouping_ AND r.prefix >> d.prefix)
      AND NOT EXISTS (SELECT FROM delegations o WHERE o.pool_id = :pool_id AND o.prefix = r.prefix
                                                  AND o.allocation_key = r.key)
    """
)

_BLOCK_KEYS = text("SELECT key FROM netbox_blocks WHERE pool_id = :pool_id")


async def update_foreign_prefixes(database: Database, netbox: NetBox, pool: BoundPool, quarantine: timedelta) -> None:
    """Read the foreign prefixes in the pool's blocks; withhold their slots, and free slots whose prefix is gone.

    Called by one worker at a time. Raises `NetBoxError`.
    """
    place = {"pool_id": pool.id}
    async with database.platform() as connection:
        blocks = {block.id: block for block in await blocks_of(connection, pool)}
        times = (await connection.execute(_LOOKED_AT, place)).all()
        known = set(await connection.scalars(_KNOWN, place))
    here: dict[int, NetBoxRecord] = {}
    for row in times:
        changed = await _changed_in(netbox, pool, blocks[row.id], row.looked_at)
        here |= {one.id: one for one in await _foreign(database, pool, [blocks[row.id]], changed)}
    before = [one for id in known - here.keys() if (one := await netbox.get(id)) is not None]
    gone = list(known - here.keys() - {one.id for one in await _foreign(database, pool, blocks.values(), before)})
    async with database.platform() as connection:
        for one in here.values():
            first, end = slot_range(pool, one.prefix)
            values = {"netbox_id": one.id, "prefix": str(one.prefix), "description": one.description}
            await connection.execute(_HERE, place | values | {"first": first, "end": end})
        await connection.execute(_GONE, place | {"gone": gone})
        await connection.execute(_OUT_OF_REACH, place)
        await connection.execute(_IN_REACH, place | {"quarantine": quarantine})
        if times:
            await connection.execute(_LOOKED, {"now": times[0].now, "ids": [row.id for row in times]})


async def _changed_in(netbox: NetBox, pool: BoundPool, block: Block, looked_at: Any) -> list[NetBoxRecord]:
    """Return the records in this block that have changed since it was last looked at."""
    since = None if looked_at is None else looked_at - MARGIN
    return [one async for one in netbox.records(vrf_id=pool.netbox.vrf_id, within=block.prefix, updated_since=since)]


async def _foreign(
    database: Database, pool: BoundPool, blocks: Iterable[Block], records: Sequence[NetBoxRecord]
) -> list[NetBoxRecord]:
    """Return the records inside one of the blocks that Lastmile did not create."""
    # The record of a block that another user of NetBox has made smaller is still ours.
    spaces = [(block.key, block.prefix) for block in blocks if block.prefix is not None]
    inside = [
        one
        for one in records
        if one.vrf_id == pool.netbox.vrf_id
        and any(one.key != key and one.prefix != space and is_within(one.prefix, space) for key, space in spaces)
    ]
    keys = [one.key for one in inside if one.key is not None]
    without = {one.id: one for one in inside if one.key is None}
    async with database.platform() as connection:
        rows = await connection.execute(
            _OURS, {"pool_id": pool.id, "keys": keys, "tenants": [AllocationKey.parse(key).tenant for key in keys]}
        )
        ours = {(row.allocation_key, row.prefix) for row in rows}
        noted = (await connection.execute(_NOTED, {"pool_id": pool.id, "ids": list(without)})).all()
    lost = {
        row.netbox_id
        for row in noted
        if lost_its_key(without[row.netbox_id], row.key, ip_network(row.prefix), pool.netbox.vrf_id)
    }
    return [one for one in inside if (one.key, str(one.prefix)) not in ours and one.id not in lost]


async def check_no_conflict(database: Database, netbox: NetBox, pool: BoundPool, blocks: Sequence[Prefix]) -> None:
    """Raise `ForeignPrefixesError` where a foreign prefix overlaps a subscriber's, or covers a block to be acquired."""
    problems: list[str] = []
    page: list[NetBoxRecord] = []
    async with database.platform() as connection:
        ours = set(await connection.scalars(_BLOCK_KEYS, {"pool_id": pool.id}))
    async for one in netbox.records(vrf_id=pool.netbox.vrf_id, within=pool.prefix, page=PAGE):
        if one.key not in ours:
            page.append(one)
        if len(page) == PAGE:
            problems += await _problems(database, pool, page, blocks)
            page = []
    problems += await _problems(database, pool, page, blocks)
    if problems:
        more = "" if len(problems) <= MOST_NAMED else f"; and {len(problems) - MOST_NAMED:,} more"
        raise ForeignPrefixesError(
            f"foreign prefixes in NetBox occupy space of pool {pool} that Lastmile needs: "
            f"{'; '.join(problems[:MOST_NAMED])}{more}. "
            "Delete them in NetBox, or move the subscribers, and try again"
        )


async def _problems(
    database: Database, pool: BoundPool, page: Sequence[NetBoxRecord], blocks: Sequence[Prefix]
) -> list[str]:
    place = {
        "pool_id": pool.id,
        "prefixes": [str(one.prefix) for one in page],
        "keys": [one.key for one in page],
        "grouping": [one.status == "container" for one in page],
    }
    async with database.platform() as connection:
        rows = (await connection.execute(_HELD, place)).all()
    problems = [f"{row.prefix}, where {row.subscriber_ref} holds {row.held}" for row in rows]
    for one in page:
        for block in blocks:
            if block == one.prefix or (one.status != "container" and is_within(block, one.prefix)):
                problems.append(f"{one.prefix}, where block {block} would be")
                break
    return problems
