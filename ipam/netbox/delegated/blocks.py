"""Blocks: parts of a NetBox prefix that Lastmile acquires whole, and allocates from at the speed of the database.

A block is a container prefix in NetBox. Its row comes first (`acquiring`), with the key that NetBox's record will
carry: after a lost reply the record is found by that key. `block_acquisition` acquires blocks, and `block_sync` keeps
their records in NetBox up to date.
`first_slot` and `end_slot` count in the pool's slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_network
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.modes import DelegatedMode
from ipam.netbox.binding import BoundPool
from ipam.netbox.records import BlockStamp
from ipam.prefix import Prefix
from lastmile.contract.addressing import Need
from lastmile.errors import OutageError

__all__ = [
    "MAINTENANCE_LOCK",
    "MAINTENANCE_SECONDS",
    "ONE_BY_ONE",
    "Block",
    "BlockState",
    "MaintenanceStatus",
    "NoBlockError",
    "block_length",
    "block_size",
    "blocks_of",
    "delegated_pools",
    "for_need",
    "maintenance_status",
    "slot_range",
    "stamp",
]

MAINTENANCE_LOCK = "block_maintenance"
"""The advisory lock of block maintenance, which runs in one process at a time."""
MAINTENANCE_SECONDS = 60
"""How long to wait for that lock, in seconds: a run of another process is almost always shorter."""


class NoBlockError(OutageError):
    """No block of these pools has a free slot, and no further block could be acquired now. A retry may succeed."""

    def __init__(self, pools: Sequence[BoundPool], reason: str = "") -> None:
        names = ", ".join(map(str, pools))
        super().__init__(
            f"no block of pool {names} has a free prefix, and no further one could be acquired now{reason}"
        )
        self.pools = pools


class BlockState(StrEnum):
    """Where a block stands between NetBox and the pool."""

    ACQUIRING = "acquiring"
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
    """None, as the slots, while NetBox has not chosen the block yet."""
    netbox_id: int | None
    """None while the block is being acquired."""
    first_slot: int | None
    end_slot: int | None
    used: int | None
    """Slots held or in quarantine, as last reported to NetBox."""

    @classmethod
    def of(cls, row: Row[Any], pool: BoundPool | None = None) -> "Block":
        """Return the block of a row of the view `pool_blocks`, of `pool` where that is about to be delegated."""
        prefix = None if row.block_prefix is None else ip_network(row.block_prefix)
        numbers = (row.block_netbox_id, row.block_first, row.block_end, row.block_used)
        whose = pool or BoundPool.of(row)
        return cls(row.block_id, whose, row.tenant_id, row.block_key, BlockState(row.block_state), prefix, *numbers)

    def __str__(self) -> str:
        return f"block {self.prefix or self.key} of pool {self.pool}"


_POOLS = text("SELECT * FROM pool_bindings WHERE mode = 'delegated' ORDER BY pool_id")

_FOR_NEED = text(
    """
    SELECT b.* FROM pools p JOIN pool_bindings b ON b.pool_id = p.id
    WHERE p.mode = 'delegated'
      AND lastmile_pool_is_candidate(p, :purpose, :length, :vrf, :pool, :region, :address)
    ORDER BY p.tenant_id NULLS LAST, p.id
    """
)

_BLOCKS = text("SELECT * FROM pool_blocks WHERE pool_id = :pool_id ORDER BY block_id")

# Serializes the changes of a pool's blocks: begin, open and return. Allocations do not wait for this lock.
ONE_BY_ONE = text("SELECT FROM pools WHERE id = :pool_id FOR NO KEY UPDATE")

_MAINTENANCE_STATUS = text("SELECT blocks, maintained_at FROM block_maintenance WHERE pool_id = :pool_id")


@dataclass(frozen=True, slots=True)
class MaintenanceStatus:
    """How up to date the blocks of a delegated pool are."""

    blocks: int
    """The number of blocks in NetBox."""
    maintained_at: datetime | None
    """When block maintenance last finished, or the pool was added; None where NetBox had no block for it."""


async def maintenance_status(connection: AsyncConnection, pool: BoundPool) -> MaintenanceStatus:
    """Return how up to date the blocks of the pool are."""
    row = (await connection.execute(_MAINTENANCE_STATUS, {"pool_id": pool.id})).one()
    return MaintenanceStatus(blocks=row.blocks, maintained_at=row.maintained_at)


async def delegated_pools(connection: AsyncConnection) -> list[BoundPool]:
    """Return every delegated pool that the connection may see."""
    return [BoundPool.of(row) for row in await connection.execute(_POOLS)]


async def for_need(connection: AsyncConnection, need: Need) -> list[BoundPool]:
    """Return the delegated pools that can serve the need, in the order of preference."""
    return [BoundPool.of(row) for row in await connection.execute(_FOR_NEED, need.by_field())]


async def blocks_of(connection: AsyncConnection, pool: BoundPool) -> list[Block]:
    """Return the pool's blocks, oldest first."""
    return [Block.of(row, pool) for row in await connection.execute(_BLOCKS, {"pool_id": pool.id})]


def block_length(pool: BoundPool) -> int:
    """Return the length, in bits, of a block that is acquired now."""
    assert isinstance(pool.netbox, DelegatedMode), f"{pool} is not delegated"
    return pool.netbox.block_length


def block_size(pool: BoundPool) -> int:
    """Return the number of slots of a block that is acquired now."""
    return 1 << (pool.length - block_length(pool))


def stamp(block: Block, *, used: int) -> BlockStamp:
    """Return what Lastmile writes on the block's record in NetBox."""
    return BlockStamp(
        key=block.key,
        tenant=block.tenant,
        used=used,
        size=block_size(block.pool) if block.prefix is None else 1 << (block.pool.length - block.prefix.prefixlen),
        description=f"Block of pool {block.pool.name}: Lastmile assigns /{block.pool.length}s of it to subscribers",
    )


def slot_range(pool: BoundPool, prefix: Prefix) -> tuple[int, int]:
    """Return the first slot of the pool that the prefix touches, and the slot after the last."""
    shift = pool.prefix.max_prefixlen - pool.length
    start = int(pool.prefix.network_address)
    first, last = int(prefix.network_address) - start, int(prefix.broadcast_address) - start
    return first >> shift, (last >> shift) + 1
