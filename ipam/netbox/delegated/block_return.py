"""Return blocks to NetBox, where other pools and other users of NetBox can have their space.

A block of a delegated pool is returned when all of this holds:
    - No slot of it is held, in quarantine or withheld, and NetBox has no record of a prefix in it.
    - The other blocks have so many free slots that no new block is acquired at once, or the pool is closed.
    - The block is an hour old, so that no request for it that a client gave up on is still running in NetBox.

A block of a direct pool is left over: from a change of the mode that is done, or from one that was
interrupted more than an hour ago. Nearly empty blocks are allocated from last, so that they become empty.
"""

from collections.abc import Iterable
from contextlib import suppress

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool, find_record
from ipam.netbox.delegated.blocks import ONE_BY_ONE, Block, BlockState, block_size, blocks_of
from ipam.netbox.direct.pending_removals import LATE
from lastmile.db import Database
from lastmile.errors import LastmileError

__all__ = [
    "leftover_pools",
    "prefer_fuller_blocks",
    "return_leftover_blocks",
    "return_spare_blocks",
    "return_withdrawn_blocks",
]

_SPARE = text(
    """
    SELECT NOT EXISTS (SELECT FROM slots WHERE pool_id = :pool_id AND slot >= :first AND slot < :end
                                           AND (delegation_id IS NOT NULL OR free_at > now()))
       AND NOT EXISTS (SELECT FROM netbox_records WHERE pool_id = :pool_id AND slot >= :first AND slot < :end)
       AND EXISTS (SELECT FROM netbox_blocks WHERE id = :id AND since < now() - CAST(:late AS interval))
       AND (EXISTS (SELECT FROM pools WHERE id = :pool_id AND closed_at IS NOT NULL) OR (SELECT count(*) FROM (
               SELECT FROM slots WHERE pool_id = :pool_id AND delegation_id IS NULL AND free_at <= now()
                                   AND NOT (slot >= :first AND slot < :end) LIMIT :enough) elsewhere) >= :enough)
    """
)

# Waits for a transaction that is claiming one of these slots, and leaves that slot.
_CLOSE = text(
    """
    DELETE FROM slots WHERE pool_id = :pool_id AND slot >= :first AND slot < :end
                        AND delegation_id IS NULL AND free_at <= now()
    """
)

_RETURNING = text("UPDATE netbox_blocks SET state = 'returning', since = now() WHERE id = :id AND state = 'open'")

_RETURNED = text("DELETE FROM netbox_blocks WHERE id = :id AND state = :state")

# Allocation takes the slot that was free the longest. So the slots of nearly empty blocks are freed anew, those of the
# newest block last; at most once an hour, since slots freed meanwhile come after them.
_PREFER_LAST = text(
    """
    WITH nearly_empty AS (
        SELECT first_slot, end_slot, row_number() OVER (ORDER BY id DESC) AS place
        FROM netbox_blocks WHERE pool_id = :pool_id AND state = 'open' AND used <= (end_slot - first_slot) / 8
    )
    UPDATE slots s SET free_at = now() - place * interval '1 millisecond' FROM nearly_empty b
    WHERE s.pool_id = :pool_id AND s.slot >= b.first_slot AND s.slot < b.end_slot
      AND s.delegation_id IS NULL AND s.free_at < now() - interval '1 hour'
      AND (SELECT count(*) FROM netbox_blocks WHERE pool_id = :pool_id AND state = 'open') > 1
    """
)

_LEFTOVER_POOLS = text(
    """
    SELECT * FROM pool_bindings p WHERE mode = 'direct'
    AND EXISTS (SELECT FROM netbox_blocks b WHERE b.pool_id = p.pool_id) ORDER BY pool_id
    """
)

# Not of a pool of the database, whose slots are in use: the next change of its mode continues with its blocks.
_LEFT = """
    SELECT b.id FROM netbox_blocks b JOIN pools p ON p.id = b.pool_id
    WHERE p.id = :pool_id AND p.mode = 'direct'
      AND b.since < now() - CAST(:late AS interval)
      AND b.state"""

# One block at a time: each has thousands of slots. The pool uses neither them nor its foreign prefixes any more.
_LEAVE = text(
    f"""
    WITH left_behind AS (
        UPDATE netbox_blocks SET state = 'returning', since = now() WHERE id = ({_LEFT} = 'open' LIMIT 1)
        RETURNING pool_id, first_slot, end_slot
    ), foreign_prefixes AS (
        DELETE FROM netbox_foreign_prefixes n USING left_behind l WHERE n.pool_id = l.pool_id
    )
    DELETE FROM slots s USING left_behind l
    WHERE s.pool_id = l.pool_id AND s.slot >= l.first_slot AND s.slot < l.end_slot
    """
)

_NEVER_ACQUIRED = text(f"{_LEFT} = 'acquiring'")


class _BlockInUseError(LastmileError):
    """A slot of the block was allocated meanwhile."""


async def leftover_pools(connection: AsyncConnection) -> list[BoundPool]:
    """Return the direct pools that have blocks."""
    return [BoundPool.of(row) for row in await connection.execute(_LEFTOVER_POOLS)]


async def prefer_fuller_blocks(database: Database, pool: BoundPool) -> None:
    """Have nearly empty blocks, by the use that was last reported, allocated from last."""
    async with database.platform() as connection:
        await connection.execute(_PREFER_LAST, {"pool_id": pool.id})


async def return_spare_blocks(database: Database, netbox: NetBox, pool: BoundPool) -> int:
    """Return the blocks that the pool can spare, the newest first; return their number.

    Can be interrupted at any moment: the next call continues. Raises `NetBoxError`.
    """
    async with database.platform() as connection:
        blocks = [block for block in await blocks_of(connection, pool) if block.state is BlockState.OPEN]
    for block in reversed(blocks):
        with suppress(_BlockInUseError):
            async with database.platform() as connection:
                await _close(connection, block)
    return await return_withdrawn_blocks(database, netbox, pool)


async def return_withdrawn_blocks(database: Database, netbox: NetBox, pool: BoundPool) -> int:
    """Delete the records of blocks that have no slots any more; return their number. Raises `NetBoxError`."""
    async with database.platform() as connection:
        blocks = [block for block in await blocks_of(connection, pool) if block.state is BlockState.RETURNING]
    await _return(database, netbox, blocks)
    return len(blocks)


async def return_leftover_blocks(database: Database, netbox: NetBox, pool: BoundPool) -> None:
    """Return the blocks of a direct pool, also those that an interrupted change of the mode has left.

    Called by one worker at a time, and not while a pool's mode changes. Raises `NetBoxError`.
    """
    place = {"pool_id": pool.id, "late": LATE}
    left = 1
    while left:
        async with database.platform() as connection:
            await connection.execute(ONE_BY_ONE, {"pool_id": pool.id})
            left = (await connection.execute(_LEAVE, place)).rowcount
    async with database.platform() as connection:
        ids = set(await connection.scalars(_NEVER_ACQUIRED, place))
        blocks = [block for block in await blocks_of(connection, pool) if block.id in ids]
    await _return(database, netbox, blocks)
    await return_withdrawn_blocks(database, netbox, pool)


async def _return(database: Database, netbox: NetBox, blocks: Iterable[Block]) -> None:
    for block in blocks:
        while record := await find_record(netbox, block.pool, block.key, block.netbox_id):
            await netbox.delete(record.id)  # there are two where a lost record was created again twice
        async with database.platform() as connection:
            await connection.execute(_RETURNED, {"id": block.id, "state": block.state})


async def _close(connection: AsyncConnection, block: Block) -> None:
    """Delete the block's slots, if the pool can spare it. After `_BlockInUseError` the caller must roll back."""
    assert block.first_slot is not None
    assert block.end_slot is not None
    await connection.execute(ONE_BY_ONE, {"pool_id": block.pool.id})
    place = {"pool_id": block.pool.id, "first": block.first_slot, "end": block.end_slot}
    spare = place | {"id": block.id, "late": LATE, "enough": max(1, block_size(block.pool) // 2)}
    if not await connection.scalar(_SPARE, spare):
        return
    if (await connection.execute(_CLOSE, place)).rowcount < block.end_slot - block.first_slot:
        raise _BlockInUseError
    await connection.execute(_RETURNING, {"id": block.id})
