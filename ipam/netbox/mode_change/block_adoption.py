"""Adopt blocks: acquire the blocks that contain a pool's present prefixes, before the pool becomes delegated."""

from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network

from sqlalchemy import text

from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool
from ipam.netbox.delegated.block_acquisition import BlockOverlapError, acquire_block
from ipam.netbox.delegated.blocks import ONE_BY_ONE, BlockState, block_length, block_size, blocks_of, slot_range
from lastmile.db import Database

__all__ = ["adopt_block", "missing_blocks"]

_BEGIN = text(
    """
    INSERT INTO netbox_blocks (id, pool_id, tenant_id, key, prefix, first_slot, end_slot)
    SELECT n, id, tenant_id, lastmile_block_key(name, n), CAST(:prefix AS cidr), :first, :end
    FROM pools, nextval('netbox_blocks_id_seq') n WHERE id = :pool_id AND NOT EXISTS (
        SELECT FROM netbox_blocks WHERE pool_id = :pool_id AND (state = 'acquiring' OR prefix = CAST(:prefix AS cidr)))
    """
)

_HERE = text(
    """
    SELECT EXISTS (SELECT FROM netbox_blocks
                   WHERE pool_id = :pool_id AND prefix = CAST(:prefix AS cidr) AND state = 'open')
    """
)

# The numbers of the blocks that contain slots, held prefixes or quarantines.
_THERE = text(
    """
    SELECT DISTINCT slot / :size FROM (
        SELECT slot FROM slots WHERE pool_id = :pool_id
        UNION ALL
        SELECT lastmile_slot(p.prefix, p.delegated_length, there.prefix) FROM pools p, (
            SELECT prefix FROM delegations
            WHERE pool_id = :pool_id AND slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL
            UNION ALL SELECT prefix FROM netbox_removals WHERE pool_id = :pool_id AND prefix IS NOT NULL) there
        WHERE p.id = :pool_id) slots
    """
)


async def missing_blocks(database: Database, pool: BoundPool) -> list[IPv4Network | IPv6Network]:
    """Return the missing blocks around everything that is held, in quarantine or within reach."""
    size = block_size(pool)
    async with database.long_transaction() as connection:
        numbers = set(await connection.scalars(_THERE, {"pool_id": pool.id, "size": size}))
        blocks = await blocks_of(connection, pool)
    numbers -= {(block.first_slot or 0) // size for block in blocks if block.state is BlockState.OPEN}
    return [_nth_block(pool, number) for number in sorted(numbers)]


async def adopt_block(database: Database, netbox: NetBox, pool: BoundPool, prefix: IPv4Network | IPv6Network) -> None:
    """Acquire the block that is exactly this prefix, with what it contains.

    Can be interrupted at any moment: the next call continues, also with another block that was begun. Raises what
    `acquire_block` raises.
    """
    first, end = slot_range(pool, prefix)
    place = {"pool_id": pool.id, "prefix": str(prefix)}
    here = False
    while not here:
        async with database.platform() as connection:
            await connection.execute(ONE_BY_ONE, {"pool_id": pool.id})
            await connection.execute(_BEGIN, place | {"first": first, "end": end})
        with suppress(BlockOverlapError):  # an earlier block, which NetBox had chosen
            await acquire_block(database, netbox, pool)
        async with database.platform() as connection:
            here = bool(await connection.scalar(_HERE, place))


def _nth_block(pool: BoundPool, number: int) -> IPv4Network | IPv6Network:
    length = block_length(pool)
    shift = pool.prefix.max_prefixlen - length
    return ip_network((int(pool.prefix.network_address) + (number << shift), length))
