"""A block that nobody needs any more goes back to NetBox, where people and other pools can have its space.

It is empty: nothing in it is held, rests, is somebody else's or is recorded in NetBox; and the other blocks have so
much room that the next one is not taken at once. Nor is it so young that NetBox may still be asked for it, by who has
given up.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db import Database
from ipam.blocks import ONE_BY_ONE, Block, block_size, blocks_of
from ipam.bound import BoundPool, find_record
from ipam.netbox import NetBox
from ipam.removals import LATE

__all__ = ["give_back"]

_SPARE = text(
    """
    SELECT NOT EXISTS (SELECT FROM slots WHERE pool_id = :pool_id AND slot >= :first AND slot < :end
                                           AND (delegation_id IS NOT NULL OR free_at > now()))
       AND NOT EXISTS (SELECT FROM netbox_records WHERE pool_id = :pool_id AND slot >= :first AND slot < :end)
       AND EXISTS (SELECT FROM netbox_blocks WHERE id = :id AND since < now() - CAST(:late AS interval))
       AND (SELECT count(*) FROM (
               SELECT FROM slots WHERE pool_id = :pool_id AND delegation_id IS NULL AND free_at <= now()
                                   AND NOT (slot >= :first AND slot < :end) LIMIT :enough) elsewhere) >= :enough
    """
)

# Waits for who is claiming one of them at this moment, and leaves that one.
_CLOSE = text(
    """
    DELETE FROM slots WHERE pool_id = :pool_id AND slot >= :first AND slot < :end
                        AND delegation_id IS NULL AND free_at <= now()
    """
)

_RETURNING = text("UPDATE netbox_blocks SET state = 'returning', since = now() WHERE id = :id AND state = 'open'")

_RETURNED = text("DELETE FROM netbox_blocks WHERE id = :id AND state = 'returning'")


class _InUse(Exception):
    """Somebody was faster."""


async def give_back(database: Database, netbox: NetBox, pool: BoundPool) -> int:
    """Return to NetBox what nobody needs, the newest blocks first; how many.

    Can be cut off at any moment: the next call goes on. Raises `NetBoxError`.
    """
    async with database.platform() as connection:
        blocks = await blocks_of(connection, pool)
    returned = 0
    for block in reversed(blocks):
        if block.state == "open":
            try:
                async with database.platform() as connection:
                    closed = await _close(connection, block)
            except _InUse:
                continue
            if not closed:
                continue
        if block.state == "taking":
            continue
        while record := await find_record(netbox, pool, block.key, block.netbox_id):
            await netbox.delete(record.id)  # there are two where NetBox was asked twice to make it again
        async with database.platform() as connection:
            await connection.execute(_RETURNED, {"id": block.id})
        returned += 1
    return returned


async def _close(connection: AsyncConnection, block: Block) -> bool:
    """Put the block's slots out of reach, if it can be spared. Raises `_InUse`: roll back."""
    assert block.first_slot is not None
    assert block.end_slot is not None
    await connection.execute(ONE_BY_ONE, {"pool_id": block.pool.id})
    place = {"pool_id": block.pool.id, "first": block.first_slot, "end": block.end_slot}
    spare = place | {"id": block.id, "late": LATE, "enough": max(1, block_size(block.pool) // 2)}
    if not await connection.scalar(_SPARE, spare):
        return False
    if (await connection.execute(_CLOSE, place)).rowcount < block.end_slot - block.first_slot:
        raise _InUse
    return (await connection.execute(_RETURNING, {"id": block.id})).rowcount > 0
