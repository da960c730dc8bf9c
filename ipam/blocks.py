"""Blocks: parts of a NetBox prefix that Lastmile takes whole, and assigns from by itself at database speed.

A block is a container prefix in NetBox. Its row comes first (`taking`), with the key that NetBox's record will carry:
so a lost reply is found again, and however many need a block at one moment, they take one. Once NetBox has chosen, or
has the one that was chosen for it (`ipam.surrounding`), its slots get their rows, and an allocation needs nobody else.
`first_slot` and `end_slot` count in the pool's slots.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from db import Database
from errors import Refused
from ipam.binding import Mode
from ipam.bound import BOUND, BoundPool, find_record
from ipam.direct import obtain
from ipam.models import Need
from ipam.netbox import NetBox, Recorded
from ipam.netbox.errors import Exhausted, NetBoxError, NotFound
from ipam.netbox.records import BlockStamp
from ipam.pools import CANDIDATE, PREFERENCE
from ipam.together import together

__all__ = [
    "BLOCK",
    "BLOCK_KEY",
    "ONE_BY_ONE",
    "Block",
    "BlockOverlaps",
    "NoBlock",
    "block_size",
    "blocks_of",
    "delegated_pools",
    "for_need",
    "make_room",
    "show",
    "slot_range",
    "stamp",
    "take",
    "tell_use",
]


class NoBlock(Exception):
    """No block of these pools has a free slot. Whether NetBox has another one is to be asked outside a transaction."""

    def __init__(self, pools: Sequence[BoundPool], reason: str = "") -> None:
        names = ", ".join(map(str, pools))
        super().__init__(f"no block of pool {names} has a free prefix, and no further one could be taken now{reason}")
        self.pools = pools


class BlockOverlaps(Exception):
    """NetBox has given space of ours away: somebody had deleted, moved or resized a block there. It is put right."""


@dataclass(frozen=True, slots=True)
class Block:
    """One row of `netbox_blocks`."""

    id: int
    pool: BoundPool
    tenant: str | None
    key: str
    state: str
    prefix: IPv4Network | IPv6Network | None
    """None, as the slots, while NetBox has not chosen yet."""
    netbox_id: int | None
    """None while it is being taken."""
    first_slot: int | None
    end_slot: int | None
    used: int | None
    """Slots held or resting, as NetBox was told."""

    @classmethod
    def of(cls, row: Row[Any], pool: BoundPool | None = None) -> "Block":
        """From a row of `BLOCK`; of this pool, which may be about to be delegated, or of the row's own."""
        prefix = None if row.block_prefix is None else ip_network(row.block_prefix)
        numbers = (row.block_netbox_id, row.block_first, row.block_end, row.block_used)
        whose = pool or BoundPool.of(row)
        return cls(row.block_id, whose, row.tenant_id, row.block_key, row.block_state, prefix, *numbers)

    def __str__(self) -> str:
        return f"block {self.prefix or self.key} of pool {self.pool}"


BLOCK = f"""
    SELECT {BOUND}, p.tenant_id, b.id AS block_id, b.key AS block_key, b.state AS block_state,
           b.prefix::text AS block_prefix, b.netbox_id AS block_netbox_id, b.first_slot AS block_first,
           b.end_slot AS block_end, b.used AS block_used
    FROM netbox_blocks b JOIN pools p ON p.id = b.pool_id
"""

_POOLS = text(f"SELECT {BOUND} FROM pools p WHERE netbox_mode = '{Mode.DELEGATED}' ORDER BY id")

_FOR_NEED = text(
    f"SELECT {BOUND} FROM pools p WHERE netbox_mode = '{Mode.DELEGATED}' AND {CANDIDATE} ORDER BY {PREFERENCE}"
)

_BLOCKS = text(f"{BLOCK} WHERE p.id = :pool_id ORDER BY b.id")

# Who begins, opens or returns a block of a pool does so one after the other; allocations do not wait for them.
ONE_BY_ONE = text("SELECT FROM pools WHERE id = :pool_id FOR NO KEY UPDATE")

_TAKING = text(f"{BLOCK} WHERE p.id = :pool_id AND b.state = 'taking'")

BLOCK_KEY = "'lastmile/block/' || name || '/' || n || '/' || left(gen_random_uuid()::text, 8)"
"""Of block `n`; nobody else's in NetBox: not of another Lastmile, nor of ours before its database was lost."""

_BEGIN = text(
    f"""
    INSERT INTO netbox_blocks (id, pool_id, tenant_id, key)
    SELECT n, id, tenant_id, {BLOCK_KEY} FROM pools, nextval('netbox_blocks_id_seq') n
    WHERE id = :pool_id AND netbox_mode = '{Mode.DELEGATED}' AND :wanted > (
        SELECT count(*) FROM (
            SELECT FROM slots WHERE pool_id = :pool_id AND delegation_id IS NULL AND free_at <= now() LIMIT :wanted
        ) free)
    """
)

_OPEN = text(
    """
    WITH opened AS (
        UPDATE netbox_blocks SET state = 'open', prefix = CAST(:prefix AS cidr), netbox_id = :netbox_id,
                                 first_slot = :first, end_slot = :end, used = 0, since = now()
        WHERE id = :id AND state = 'taking'
        RETURNING pool_id, tenant_id, first_slot, end_slot
    )
    INSERT INTO slots (pool_id, slot, tenant_id)
    SELECT pool_id, slot, tenant_id FROM opened, generate_series(first_slot, end_slot - 1) slot
    ON CONFLICT DO NOTHING
    """
)

_USED = text(
    """
    SELECT count(*) FROM slots WHERE pool_id = :pool_id AND slot >= :first AND slot < :end
                                 AND (delegation_id IS NOT NULL OR free_at > now())
    """
)

_TOLD = text("UPDATE netbox_blocks SET used = :used, netbox_id = :netbox_id WHERE id = :id AND state <> 'taking'")


async def delegated_pools(connection: AsyncConnection) -> list[BoundPool]:
    """Every delegated pool that the connection may see."""
    return [BoundPool.of(row) for row in await connection.execute(_POOLS)]


async def for_need(connection: AsyncConnection, need: Need) -> list[BoundPool]:
    """The delegated pools that would do, best first."""
    return [BoundPool.of(row) for row in await connection.execute(_FOR_NEED, asdict(need))]


async def blocks_of(connection: AsyncConnection, pool: BoundPool) -> list[Block]:
    """The pool's blocks, oldest first."""
    return [Block.of(row, pool) for row in await connection.execute(_BLOCKS, {"pool_id": pool.id})]


def block_size(pool: BoundPool) -> int:
    """Slots in a block that is taken now."""
    return 1 << (pool.length - _block_length(pool))


def stamp(block: Block, *, used: int) -> BlockStamp:
    """What NetBox is told about the block."""
    return BlockStamp(
        key=block.key,
        tenant=block.tenant,
        used=used,
        size=block_size(block.pool) if block.prefix is None else 1 << (block.pool.length - block.prefix.prefixlen),
        description=f"Lastmile's: it gives /{block.pool.length}s of pool {block.pool.name} to subscribers from here",
    )


async def make_room(database: Database, netbox: NetBox, pools: Sequence[BoundPool]) -> bool:
    """Take a block of the first of these pools that has one left, unless there is room meanwhile; False: none has.

    Raises `PoolMoved`, the `Refused` kinds of `NetBoxError`, and `NoBlock`: then try again.
    """
    for pool in pools:
        try:
            await take(database, netbox, pool)
        except Exhausted:
            continue
        except NetBoxError as failure:
            if isinstance(failure, Refused):
                raise
            raise NoBlock([pool], f": {failure}") from None
        return True
    return False


async def take(database: Database, netbox: NetBox, pool: BoundPool, *, wanted: int = 1) -> bool:
    """Take one more block where the pool has less than `wanted` free slots, or one was being taken; whether it did.

    Can be cut off at any moment, and done by several at once. Raises `BlockOverlaps`, `PoolMoved` and `NetBoxError`.
    """
    return await together((netbox, pool.id), lambda: _take(database, netbox, pool, wanted))


async def _take(database: Database, netbox: NetBox, pool: BoundPool, wanted: int) -> bool:
    async with database.platform() as connection:
        await connection.execute(ONE_BY_ONE, {"pool_id": pool.id})
        row = (await connection.execute(_TAKING, {"pool_id": pool.id})).one_or_none()
        if row is None:
            await connection.execute(_BEGIN, {"pool_id": pool.id, "wanted": wanted})
            row = (await connection.execute(_TAKING, {"pool_id": pool.id})).one_or_none()
    if row is None:
        return False
    block = Block.of(row, pool)
    recorded = await _recorded(netbox, block)
    try:
        async with database.platform() as connection:
            await connection.execute(ONE_BY_ONE, {"pool_id": pool.id})
            await connection.execute(_OPEN, {"id": block.id} | _place(pool, recorded))
    except IntegrityError as failure:
        if "netbox_blocks_no_overlap" not in str(failure.orig):
            raise
        await _restore(database, netbox, pool, recorded)
        raise BlockOverlaps(f"NetBox gave {recorded.prefix}, of a block that was changed there by hand") from None
    return True


async def _recorded(netbox: NetBox, block: Block) -> Recorded:
    """What NetBox has for a block that is being taken, or gets now."""
    pool, new = block.pool, stamp(block, used=0)
    if block.prefix is not None:
        found = await netbox.find(block.key, vrf_id=pool.netbox.vrf_id)
        return found or await netbox.create(block.prefix, vrf_id=pool.netbox.vrf_id, stamp=new)
    # The length that was asked for may have been another one.
    return await obtain(netbox, pool, new, length=_block_length(pool), fits=pool.has_block, first=False)


async def tell_use(database: Database, netbox: NetBox, pool: BoundPool) -> None:
    """Show in NetBox how full the pool's blocks are; whatever people have made of their records is put right.

    By one at a time. Raises `NetBoxError`.
    """
    async with database.platform() as connection:
        blocks = await blocks_of(connection, pool)
    for block in blocks:
        if block.state == "open":
            await show(database, netbox, block)


async def show(database: Database, netbox: NetBox, block: Block) -> None:
    """Have NetBox show an open block where it is, and how full. By one at a time. Raises `NetBoxError`."""
    place = {"pool_id": block.pool.id, "first": block.first_slot, "end": block.end_slot}
    async with database.platform() as connection:
        used = await connection.scalar(_USED, place) or 0
    record = await find_record(netbox, block.pool, block.key, block.netbox_id)
    known = record is not None and record.id == block.netbox_id and _in_place(block, record)
    if not known or record is None or used != block.used or record.faults(stamp(block, used=used)):
        await _write(database, netbox, block, record, used=used)


def slot_range(pool: BoundPool, prefix: IPv4Network | IPv6Network) -> tuple[int, int]:
    """The first slot of the pool that the prefix touches, and the one behind the last."""
    shift = pool.prefix.max_prefixlen - pool.length
    start = int(pool.prefix.network_address)
    first, last = int(prefix.network_address) - start, int(prefix.broadcast_address) - start
    return first >> shift, (last >> shift) + 1


def _place(pool: BoundPool, recorded: Recorded) -> dict[str, Any]:
    first, end = slot_range(pool, recorded.prefix)
    return {"prefix": str(recorded.prefix), "netbox_id": recorded.id, "first": first, "end": end}


def _in_place(block: Block, record: Recorded) -> bool:
    return (record.prefix, record.vrf_id) == (block.prefix, block.pool.netbox.vrf_id)


async def _write(database: Database, netbox: NetBox, block: Block, record: Recorded | None, *, used: int) -> None:
    """Make this record that of the block, or a new one. Can be repeated."""
    assert block.prefix is not None
    place: dict[str, Any] = {"vrf_id": block.pool.netbox.vrf_id, "stamp": stamp(block, used=used)}
    if record is None:
        record = await netbox.create(block.prefix, **place)
    else:
        record = await netbox.place(record, block.prefix, **place)
    async with database.platform() as connection:
        await connection.execute(_TOLD, {"id": block.id, "used": used, "netbox_id": record.id})


async def _restore(database: Database, netbox: NetBox, pool: BoundPool, given: Recorded) -> None:
    """NetBox has given our space away a second time: what it gave becomes the block's record, or goes."""
    async with database.platform() as connection:
        blocks = await blocks_of(connection, pool)
    for block in blocks:
        if block.prefix is None or not block.prefix.overlaps(given.prefix):
            continue
        record = await find_record(netbox, pool, block.key, block.netbox_id)
        if record is not None and record.id == given.id:
            return  # somebody was faster
        if record is not None and _in_place(block, record):
            continue
        if record is not None:
            await netbox.delete(record.id)
        with suppress(NotFound):
            await _write(database, netbox, block, given, used=block.used or 0)
        return
    await netbox.delete(given.id)


def _block_length(pool: BoundPool) -> int:
    assert pool.netbox.block_length is not None, f"{pool} is not delegated"
    return pool.netbox.block_length
