"""Keep the records of blocks in NetBox up to date: place, use and tenant, whatever other users do to them."""

from typing import Any

from sqlalchemy import text

from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.binding import BoundPool, find_record
from ipam.netbox.delegated.blocks import Block, BlockState, blocks_of, stamp
from lastmile.db import Database

__all__ = ["in_place", "report_use", "show", "write"]

_USED = text(
    """
    SELECT count(*) FROM slots WHERE pool_id = :pool_id AND slot >= :first AND slot < :end
                                 AND (delegation_id IS NOT NULL OR free_at > now())
    """
)

_REPORTED = text(
    "UPDATE netbox_blocks SET used = :used, netbox_id = :netbox_id WHERE id = :id AND state <> 'acquiring'"
)


async def report_use(database: Database, netbox: NetBox, pool: BoundPool) -> None:
    """Report how full the pool's blocks are, and repair their records in NetBox.

    Called by one worker at a time. Raises `NetBoxError`.
    """
    async with database.platform() as connection:
        blocks = await blocks_of(connection, pool)
    for block in blocks:
        if block.state is BlockState.OPEN:
            await show(database, netbox, block)


async def show(database: Database, netbox: NetBox, block: Block) -> None:
    """Report the place and the use of an open block. Called by one worker at a time. Raises `NetBoxError`."""
    place = {"pool_id": block.pool.id, "first": block.first_slot, "end": block.end_slot}
    async with database.platform() as connection:
        used = await connection.scalar(_USED, place) or 0
    record = await find_record(netbox, block.pool, block.key, block.netbox_id, to_stamp=block.prefix)
    known = record is not None and (record.id, record.key) == (block.netbox_id, block.key) and in_place(block, record)
    if not known or record is None or used != block.used or record.faults(stamp(block, used=used)):
        await write(database, netbox, block, record, used=used)


def in_place(block: Block, record: NetBoxRecord) -> bool:
    """Return whether the record has the block's prefix and VRF."""
    return (record.prefix, record.vrf_id) == (block.prefix, block.pool.netbox.vrf_id)


async def write(database: Database, netbox: NetBox, block: Block, record: NetBoxRecord | None, *, used: int) -> None:
    """Write the block on this record; None: on a new one. Can be repeated. Raises `NetBoxError`."""
    assert block.prefix is not None
    place: dict[str, Any] = {"vrf_id": block.pool.netbox.vrf_id, "stamp": stamp(block, used=used)}
    if record is None:
        record = await netbox.create(block.prefix, **place)
    else:
        record = await netbox.place(record, block.prefix, **place)
    async with database.platform() as connection:
        await connection.execute(_REPORTED, {"id": block.id, "used": used, "netbox_id": record.id})
