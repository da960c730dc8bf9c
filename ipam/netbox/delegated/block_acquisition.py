"""Acquire a block: NetBox chooses it, or `ipam.netbox.mode_change.block_adoption` does, and its slots get their rows.

Callers that need a block at the same moment acquire one block together. Allocations from it do not need NetBox.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.binding import BoundPool, find_record
from ipam.netbox.delegated.block_sync import in_place, write
from ipam.netbox.delegated.blocks import (
    ONE_BY_ONE,
    Block,
    NoBlockError,
    block_length,
    blocks_of,
    slot_range,
    stamp,
)
from ipam.netbox.direct.chosen_prefix import RecordElsewhereError, obtain
from ipam.netbox.errors import NetBoxError, NetBoxExhaustedError, NetBoxNotFoundError
from ipam.netbox.single_flight import single_flight
from lastmile.db import Database
from lastmile.errors import LastmileError, NonRetryableError

__all__ = ["BlockOverlapError", "acquire_block", "acquire_for_first"]


class BlockOverlapError(LastmileError):
    """NetBox chose space of a block whose record was deleted, moved or resized there. The record is restored."""


_ACQUIRING = text("SELECT * FROM pool_blocks WHERE pool_id = :pool_id AND block_state = 'acquiring'")

_BEGIN = text(
    """
    INSERT INTO netbox_blocks (id, pool_id, tenant_id, key)
    SELECT n, id, tenant_id, lastmile_block_key(name, n) FROM pools, nextval('netbox_blocks_id_seq') n
    WHERE id = :pool_id AND mode = 'delegated' AND closed_at IS NULL
      AND NOT lastmile_pool_is_changing(pools) AND :free_slots > (
        SELECT count(*) FROM (
            SELECT FROM slots WHERE pool_id = :pool_id AND delegation_id IS NULL AND free_at <= now() LIMIT :free_slots
        ) free)
    """
)

_OPEN = text(
    """
    WITH opened AS (
        UPDATE netbox_blocks SET state = 'open', prefix = CAST(:prefix AS cidr), netbox_id = :netbox_id,
                                 first_slot = :first, end_slot = :end, used = 0, since = now()
        WHERE id = :id AND state = 'acquiring'
        RETURNING pool_id, tenant_id, first_slot, end_slot
    ), not_full AS (
        UPDATE pools SET netbox_full_since = NULL FROM opened
        WHERE pools.id = opened.pool_id AND netbox_full_since IS NOT NULL
    )
    INSERT INTO slots (pool_id, slot, tenant_id)
    SELECT pool_id, slot, tenant_id FROM opened, generate_series(first_slot, end_slot - 1) slot
    ON CONFLICT DO NOTHING
    """
)

# Not where another attempt has acquired the block meanwhile.
_FULL = text(
    """
    UPDATE pools SET netbox_full_since = now()
    WHERE id = :pool_id AND netbox_full_since IS NULL
      AND EXISTS (SELECT FROM netbox_blocks WHERE id = :id AND state = 'acquiring')
    """
)


async def acquire_for_first(database: Database, netbox: NetBox, pools: Sequence[BoundPool]) -> bool:
    """Acquire a block for the first of these pools for which NetBox has one, unless a slot has become free meanwhile.

    False: NetBox has no block for any of them. Raises `PoolMovedError`, the `NonRetryableError` kinds of `NetBoxError`,
    and `NoBlockError`, after which a retry may succeed.
    """
    for pool in pools:
        try:
            await acquire_block(database, netbox, pool)
        except NetBoxExhaustedError:
            continue
        except NetBoxError as failure:
            if isinstance(failure, NonRetryableError):
                raise
            raise NoBlockError([pool], f": {failure}") from None
        return True
    return False


async def acquire_block(database: Database, netbox: NetBox, pool: BoundPool, *, free_slots: int = 1) -> bool:
    """Acquire a block where the pool has fewer than `free_slots` free slots, or finish one that is being acquired.

    Returns whether a block was acquired. Can be interrupted at any moment, and called concurrently. Raises
    `BlockOverlapError`, `PoolMovedError` and `NetBoxError`.
    """
    return await single_flight((netbox, pool.id), lambda: _take(database, netbox, pool, free_slots))


async def _take(database: Database, netbox: NetBox, pool: BoundPool, free_slots: int) -> bool:
    async with database.platform() as connection:
        await connection.execute(ONE_BY_ONE, {"pool_id": pool.id})
        row = (await connection.execute(_ACQUIRING, {"pool_id": pool.id})).one_or_none()
        if row is None:
            await connection.execute(_BEGIN, {"pool_id": pool.id, "free_slots": free_slots})
            row = (await connection.execute(_ACQUIRING, {"pool_id": pool.id})).one_or_none()
    if row is None:
        return False
    block = Block.of(row, pool)
    try:
        recorded = await _recorded(netbox, block)
    except NetBoxExhaustedError:
        async with database.platform() as connection:
            await connection.execute(ONE_BY_ONE, {"pool_id": pool.id})
            await connection.execute(_FULL, {"pool_id": pool.id, "id": block.id})
        raise
    try:
        async with database.platform() as connection:
            await connection.execute(ONE_BY_ONE, {"pool_id": pool.id})
            await connection.execute(_OPEN, {"id": block.id} | _place(pool, recorded))
    except IntegrityError as failure:
        if "netbox_blocks_no_overlap" not in str(failure.orig):
            raise
        await _restore(database, netbox, pool, recorded)
        raise BlockOverlapError(f"NetBox gave {recorded.prefix}, of a block that was changed there by hand") from None
    return True


async def _recorded(netbox: NetBox, block: Block) -> NetBoxRecord:
    """Return the record of a block that is being acquired; create it where NetBox has none."""
    pool, new = block.pool, stamp(block, used=0)
    if block.prefix is not None:
        found = await netbox.find(block.key)
        if found is None:
            return await netbox.create(block.prefix, vrf_id=pool.netbox.vrf_id, stamp=new)
        if in_place(block, found):
            return found
        return await netbox.place(found, block.prefix, vrf_id=pool.netbox.vrf_id, stamp=new)
    # An earlier attempt may have asked for another length.
    obtained = partial(obtain, netbox, pool, new, length=block_length(pool), fits=pool.has_block)
    try:
        return await obtained(first=False)
    except RecordElsewhereError as misplaced:  # from before the pool's prefix was restored
        await netbox.delete(misplaced.record.id)
        return await obtained(first=True)


def _place(pool: BoundPool, recorded: NetBoxRecord) -> dict[str, Any]:
    first, end = slot_range(pool, recorded.prefix)
    return {"prefix": str(recorded.prefix), "netbox_id": recorded.id, "first": first, "end": end}


async def _restore(database: Database, netbox: NetBox, pool: BoundPool, given: NetBoxRecord) -> None:
    """After NetBox chose space of an existing block, make the new record that block's, or delete it."""
    async with database.platform() as connection:
        blocks = await blocks_of(connection, pool)
    for block in blocks:
        if block.prefix is None or not block.prefix.overlaps(given.prefix):
            continue
        record = await find_record(netbox, pool, block.key, block.netbox_id, to_stamp=block.prefix)
        if record is not None and record.id == given.id:
            return  # another attempt was faster
        if record is not None and in_place(block, record):
            continue
        if record is not None:
            await netbox.delete(record.id)
        with suppress(NetBoxNotFoundError):
            await write(database, netbox, block, given, used=block.used or 0)
        return
    await netbox.delete(given.id)
