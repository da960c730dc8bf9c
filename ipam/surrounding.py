"""Blocks taken around what is there already: explicit containers in NetBox, where a pool comes to be delegated."""

from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network

from sqlalchemy import text

from db import Database
from ipam.blocks import BLOCK_KEY, ONE_BY_ONE, BlockOverlaps, slot_range, take
from ipam.bound import BoundPool
from ipam.netbox import NetBox

__all__ = ["surround"]

_BEGIN = text(
    f"""
    INSERT INTO netbox_blocks (id, pool_id, tenant_id, key, prefix, first_slot, end_slot)
    SELECT n, id, tenant_id, {BLOCK_KEY}, CAST(:prefix AS cidr), :first, :end
    FROM pools, nextval('netbox_blocks_id_seq') n WHERE id = :pool_id AND NOT EXISTS (
        SELECT FROM netbox_blocks WHERE pool_id = :pool_id AND (state = 'taking' OR prefix = CAST(:prefix AS cidr)))
    """
)

_HERE = text(
    """
    SELECT EXISTS (SELECT FROM netbox_blocks
                   WHERE pool_id = :pool_id AND prefix = CAST(:prefix AS cidr) AND state = 'open')
    """
)


async def surround(database: Database, netbox: NetBox, pool: BoundPool, prefix: IPv4Network | IPv6Network) -> None:
    """Take the block that is this very prefix, with whatever is in it.

    Can be cut off at any moment: the next call goes on, also with another one that was begun. Raises what `take` does.
    """
    first, end = slot_range(pool, prefix)
    place = {"pool_id": pool.id, "prefix": str(prefix)}
    here = False
    while not here:
        async with database.platform() as connection:
            await connection.execute(ONE_BY_ONE, {"pool_id": pool.id})
            await connection.execute(_BEGIN, place | {"first": first, "end": end})
        with suppress(BlockOverlaps):  # of an earlier one, which NetBox had chosen
            await take(database, netbox, pool)
        async with database.platform() as connection:
            here = bool(await connection.scalar(_HERE, place))
