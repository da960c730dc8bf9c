"""Prepare a change of a pool's mode: the requests to NetBox that take time, while the pool is open.

Each call does a part, can be interrupted at any moment, and continues where the last one stopped. A second, short
preparation follows once the pool is closed.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from sqlalchemy import text

from ipam.errors import PoolBusyError
from ipam.modes import PoolMode
from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool
from ipam.netbox.delegated.block_acquisition import BlockOverlapError, acquire_block
from ipam.netbox.delegated.block_return import return_withdrawn_blocks
from ipam.netbox.delegated.blocks import MAINTENANCE_LOCK, MAINTENANCE_SECONDS, block_length, blocks_of
from ipam.netbox.delegated.foreign_prefixes import check_no_conflict, update_foreign_prefixes
from ipam.netbox.delegated.outbox import backlog, drain
from ipam.netbox.errors import NetBoxExhaustedError
from ipam.netbox.mode_change.block_adoption import adopt_block, missing_blocks
from lastmile.db import Database
from lastmile.db.advisory_lock import exclusive
from lastmile.errors import LastmileError

__all__ = [
    "MaintenanceBusyError",
    "acquire_blocks",
    "check_options",
    "maintenance_stopped",
    "report_prefixes",
    "settle_block",
]

BUDGET = timedelta(seconds=20)
"""How long one call continues with the next block, or the next prefixes."""
PAUSE = timedelta(seconds=1)
"""The pause between two reads of an outbox that another process drains."""

# Blocks of an earlier change with another length than requested now are returned. The others stay while this change
# runs: leftover blocks are returned after an hour.
_OTHER_LENGTHS = text(
    """
    UPDATE netbox_blocks SET state = 'returning', since = now()
    WHERE pool_id = :pool_id AND state = 'open' AND masklen(prefix) <> :block_length
    """
)
_STILL_NEEDED = text("UPDATE netbox_blocks SET since = now() WHERE pool_id = :pool_id AND state = 'open'")

_GIVE_UP_BLOCK = text("DELETE FROM netbox_blocks WHERE pool_id = :pool_id AND state = 'acquiring' AND prefix IS NULL")


class MaintenanceBusyError(LastmileError):
    """A worker has been maintenance_stopped the blocks of all pools for a minute: try again."""


@asynccontextmanager
async def maintenance_stopped(database: Database) -> AsyncIterator[None]:
    """Stop the block maintenance of all workers within the block. Raises `MaintenanceBusyError`."""
    async with exclusive(database, MAINTENANCE_LOCK, patience=MAINTENANCE_SECONDS) as acquired:
        if not acquired:
            raise MaintenanceBusyError("a worker has been maintenance_stopped the blocks of pools for a minute")
        yield


async def acquire_blocks(
    database: Database, netbox: NetBox, pool: BoundPool, quarantine: timedelta, *, first: bool
) -> int:
    """Acquire blocks around everything that is held, in quarantine or within reach; return how many are missing still.

    `quarantine` is that of a prefix without a confirmed end of its last session. Raises `ForeignPrefixesError`,
    `MaintenanceBusyError` and `NetBoxError`.
    """
    end = time.monotonic() + BUDGET.total_seconds()
    async with maintenance_stopped(database):
        async with database.platform() as connection:
            place = {"pool_id": pool.id}
            await connection.execute(_OTHER_LENGTHS, place | {"block_length": block_length(pool)})
            await connection.execute(_STILL_NEEDED, place)
        await return_withdrawn_blocks(database, netbox, pool)
        missing = await missing_blocks(database, pool)
        if first:
            await check_no_conflict(database, netbox, pool, missing)
        for number, prefix in enumerate(missing):
            if time.monotonic() > end:
                return len(missing) - number
            await adopt_block(database, netbox, pool, prefix)
        await update_foreign_prefixes(database, netbox, pool, quarantine)
    return 0


async def report_prefixes(database: Database, netbox: NetBox, pool: BoundPool) -> int:
    """Report prefixes to NetBox, here or by a worker's maintenance; return how many NetBox does not know yet.

    Raises `PoolBusyError` where NetBox refuses one, or may be at work on one still, and `NetBoxError`.
    """
    end = time.monotonic() + BUDGET.total_seconds()
    while True:
        async with database.platform() as connection:
            behind = await backlog(connection, pool)
        if behind.refused:
            raise PoolBusyError(
                f"NetBox refuses {behind.refused:,} prefixes of pool {pool}: `lastmile audit` says which and why. Fix "
                "them there, and the same change again continues. Until then the pool is delegated"
            )
        if behind.unsettled_until is not None:
            until = f"{behind.unsettled_until:%Y-%m-%d %H:%M:%S %Z}"
            raise PoolBusyError(
                f"a reply about a prefix of pool {pool} was lost, and NetBox may be at work on it still: the same "
                f"change again continues after {until}. Until then the pool is delegated"
            )
        if not behind.waiting or time.monotonic() > end:
            return behind.waiting
        async with exclusive(database, MAINTENANCE_LOCK) as acquired:
            reported = await drain(database, netbox, pool) if acquired else 0
        if not reported:
            await asyncio.sleep(PAUSE.total_seconds())


async def settle_block(database: Database, netbox: NetBox, pool: BoundPool) -> None:
    """Complete a block that is being acquired, or give it up where NetBox has none."""
    async with database.platform() as connection:
        if all(block.state != "acquiring" for block in await blocks_of(connection, pool)):
            return
    try:
        with suppress(BlockOverlapError):  # repaired; the conversion finds out, and this is tried again
            await acquire_block(database, netbox, pool)
    except NetBoxExhaustedError:
        async with database.platform() as connection:
            await connection.execute(_GIVE_UP_BLOCK, {"pool_id": pool.id})


async def check_options(database: Database, pool: BoundPool, present: PoolMode) -> None:
    """Raise `PoolBusyError` where NetBox would need a record of a prefix that is a block already."""
    if present.reports_prefixes or not pool.netbox.reports_prefixes:
        return
    async with database.platform() as connection:
        blocks = await blocks_of(connection, pool)
    if any(block.prefix is not None and block.prefix.prefixlen == pool.length for block in blocks):
        raise PoolBusyError(
            f"pool {pool} has blocks of one prefix each, and NetBox has no prefix twice: it can record each prefix "
            "once those blocks have been returned"
        )
