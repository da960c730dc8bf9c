"""Blocks: parts of a NetBox prefix that Lastmile takes whole, and assigns from by itself at database speed.

A block is a container prefix in NetBox. Its row comes first (`taking`), with the key that NetBox's record will carry:
so a lost reply is found again. `block_acquisition` acquires blocks, and `block_sync` keeps NetBox showing them.
`first_slot` and `end_slot` count in the pool's slots.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_network
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.models import Need
from ipam.netbox.binding import AllocationMode, BoundPool
from ipam.netbox.records import BlockStamp
from ipam.prefix import Prefix
from lastmile.errors import OutageError

__all__ = [
    "ONE_BY_ONE",
    "Block",
    "BlockState",
    "NoBlockError",
    "Upkeep",
    "block_length",
    "block_size",
    "blocks_of",
    "delegated_pools",
    "for_need",
    "slot_range",
    "stamp",
    "upkeep",
]


class NoBlockError(OutageError):
    """No block of these pools has a free slot. Whether NetBox has another one is to be asked outside a transaction."""

    def __init__(self, pools: Sequence[BoundPool], reason: str = "") -> None:
        names = ", ".join(map(str, pools))
        super().__init__(f"no block of pool {names} has a free prefix, and no further one could be taken now{reason}")
        self.pools = pools


class BlockState(StrEnum):
    """Where a block stands between NetBox and the pool."""

    TAKING = "taking"
    """Being acquired: NetBox has chosen it, or will choose it. No slot of it exists yet."""
    OPEN = "open"
    """In use: its slots can be allocated."""
    RETURNING = "returning"
    """Being returned: no slot of it exists any more, and its record in NetBox is to be deleted."""


@dataclass(frozen=True, slots=True)
class Block:
    """One row of `netbox_blocks`."""

    id: int
    pool: BoundPool
    tenant: str | None
    key: str
    state: BlockState
    prefix: Prefix | None
    """None, as the slots, while NetBox has not chosen yet."""
    netbox_id: int | None
    """None while it is being taken."""
    first_slot: int | None
    end_slot: int | None
    used: int | None
    """Slots held or resting, as NetBox was told."""

    @classmethod
    def of(cls, row: Row[Any], pool: BoundPool | None = None) -> "Block":
        """Return the block of a row of the view `pool_blocks`, of `pool` where that is about to be delegated."""
        prefix = None if row.block_prefix is None else ip_network(row.block_prefix)
        numbers = (row.block_netbox_id, row.block_first, row.block_end, row.block_used)
        whose = pool or BoundPool.of(row)
        return cls(row.block_id, whose, row.tenant_id, row.block_key, BlockState(row.block_state), prefix, *numbers)

    def __str__(self) -> str:
        return f"block {self.prefix or self.key} of pool {self.pool}"


_POOLS = text(f"SELECT * FROM pool_bindings WHERE mode = '{AllocationMode.DELEGATED}' ORDER BY pool_id")

_FOR_NEED = text(
    f"""
    SELECT b.* FROM pools p JOIN pool_bindings b ON b.pool_id = p.id
    WHERE p.netbox_mode = '{AllocationMode.DELEGATED}'
      AND lastmile_pool_is_candidate(p, :purpose, :length, :vrf, :pool, :region, :address)
    ORDER BY p.tenant_id NULLS LAST, p.id
    """
)

_BLOCKS = text("SELECT * FROM pool_blocks WHERE pool_id = :pool_id ORDER BY block_id")

# Who begins, opens or returns a block of a pool does so one after the other; allocations do not wait for them.
ONE_BY_ONE = text("SELECT FROM pools WHERE id = :pool_id FOR NO KEY UPDATE")

_UPKEEP = text("SELECT blocks, kept_at FROM block_maintenance WHERE pool_id = :pool_id")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """How a delegated pool is looked after in NetBox."""

    blocks: int
    """Those that it has there."""
    kept_at: datetime | None
    """When a keeper last had them as they should be, or the pool was made; None where NetBox has had none for it."""


async def upkeep(connection: AsyncConnection, pool: BoundPool) -> Upkeep:
    """How this pool is looked after."""
    row = (await connection.execute(_UPKEEP, {"pool_id": pool.id})).one()
    return Upkeep(blocks=row.blocks, kept_at=row.kept_at)


async def delegated_pools(connection: AsyncConnection) -> list[BoundPool]:
    """Every delegated pool that the connection may see."""
    return [BoundPool.of(row) for row in await connection.execute(_POOLS)]


async def for_need(connection: AsyncConnection, need: Need) -> list[BoundPool]:
    """The delegated pools that would do, best first."""
    return [BoundPool.of(row) for row in await connection.execute(_FOR_NEED, asdict(need))]


async def blocks_of(connection: AsyncConnection, pool: BoundPool) -> list[Block]:
    """The pool's blocks, oldest first."""
    return [Block.of(row, pool) for row in await connection.execute(_BLOCKS, {"pool_id": pool.id})]


def block_length(pool: BoundPool) -> int:
    """Of a block that is taken now, in bits."""
    assert pool.netbox.block_length is not None, f"{pool} is not delegated"
    return pool.netbox.block_length


def block_size(pool: BoundPool) -> int:
    """Slots in a block that is taken now."""
    return 1 << (pool.length - block_length(pool))


def stamp(block: Block, *, used: int) -> BlockStamp:
    """What NetBox is told about the block."""
    return BlockStamp(
        key=block.key,
        tenant=block.tenant,
        used=used,
        size=block_size(block.pool) if block.prefix is None else 1 << (block.pool.length - block.prefix.prefixlen),
        description=f"Lastmile's: it gives /{block.pool.length}s of pool {block.pool.name} to subscribers from here",
    )


def slot_range(pool: BoundPool, prefix: Prefix) -> tuple[int, int]:
    """The first slot of the pool that the prefix touches, and the one behind the last."""
    shift = pool.prefix.max_prefixlen - pool.length
    start = int(pool.prefix.network_address)
    first, last = int(prefix.network_address) - start, int(prefix.broadcast_address) - start
    return first >> shift, (last >> shift) + 1
