"""Maintain delegated pools in the background: acquire blocks ahead of need, report to NetBox, return spare blocks.

No order waits for this: an allocation that finds no free slot acquires a block by itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ipam.errors import PoolMovedError
from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool
from ipam.netbox.delegated.block_acquisition import BlockOverlapError, acquire_block
from ipam.netbox.delegated.block_return import (
    leftover_pools,
    prefer_fuller_blocks,
    return_leftover_blocks,
    return_spare_blocks,
)
from ipam.netbox.delegated.block_sync import report_use
from ipam.netbox.delegated.blocks import MAINTENANCE_LOCK, block_size, delegated_pools
from ipam.netbox.delegated.foreign_prefixes import update_foreign_prefixes
from ipam.netbox.delegated.outbox import drain
from ipam.netbox.errors import (
    KeyTakenError,
    NetBoxError,
    NetBoxExhaustedError,
    NetBoxInvalidError,
    NetBoxNotFoundError,
    NetBoxTenantMissingError,
)
from lastmile.background import BackgroundTask
from lastmile.db import Database
from lastmile.db.advisory_lock import exclusive

__all__ = ["BlockMaintenance"]

INTERVAL = timedelta(seconds=1)
REPORT_TIME = timedelta(seconds=5)
"""How long one run reports prefixes: blocks are more urgent. Where more is due, the next run follows at once."""
LONGEST_PAUSE = timedelta(minutes=1)
"""The longest pause after failures."""
LOOK_EVERY = timedelta(minutes=1)
"""How old the use of blocks in NetBox may be, and a foreign prefix when Lastmile notices it."""
LOW = 4
"""The next block is acquired when less than a block divided by this number is free."""

OUTAGE_ERRORS = (NetBoxError, SQLAlchemyError, OSError, TimeoutError)
"""Failures after which the run ends: NetBox or PostgreSQL does not answer."""
POOL_ERRORS = (
    BlockOverlapError,
    PoolMovedError,
    NetBoxExhaustedError,
    NetBoxInvalidError,
    KeyTakenError,
    NetBoxTenantMissingError,
    NetBoxNotFoundError,
)
"""Failures that concern one pool: the run continues with the others."""

log = structlog.get_logger("lastmile.block_maintenance")


class BlockMaintenance(BackgroundTask):
    """The maintenance of all delegated pools by this process, in the background within `async with`."""

    def __init__(self, database: Database, netbox: NetBox, quarantine: timedelta) -> None:
        """`quarantine` is that of a prefix without a confirmed end of its last session."""
        self._quarantine = quarantine
        self._database = database
        self._netbox = netbox
        self.pause = INTERVAL
        """The time until the next run."""
        self._looked_around = float("-inf")
        self._reported: dict[int, float] = {}
        """When the prefixes of each pool were last reported, by the pool's id."""
        self._behind = False
        """Whether more was due when the last run ended."""
        self._without_block: set[int] = set()
        """Ids of pools for which no further block could be acquired since the last look at NetBox."""

    async def _run(self) -> None:
        while True:
            await self.run_once()
            if self._ends:
                return
            await asyncio.sleep(self.pause.total_seconds())

    async def run_once(self, report_time: timedelta = REPORT_TIME) -> bool:
        """Run the maintenance once, unless another worker runs it; return whether all of it succeeded.

        Prefixes are reported for `report_time`, or a little longer.
        """
        self._behind = False
        try:
            async with exclusive(self._database, MAINTENANCE_LOCK) as acquired:
                fine = await self._everything(report_time) if acquired else True
        except OUTAGE_ERRORS as failure:
            log.warning("block_maintenance.unavailable", reason=_line(failure))
        except Exception:  # a failure must neither end the background task nor stay out of the log
            log.exception("block_maintenance.failed")
        else:
            self.pause = timedelta(0) if self._behind else INTERVAL
            return fine
        self.pause = min(2 * max(self.pause, INTERVAL), LONGEST_PAUSE)
        return False

    async def _everything(self, report_time: timedelta) -> bool:
        async with self._database.platform() as connection:
            pools = await delegated_pools(connection)
            others = await leftover_pools(connection)
        look_around = time.monotonic() - self._looked_around >= LOOK_EVERY.total_seconds()
        if look_around:
            self._without_block.clear()
        parts: list[Callable[[], Awaitable[bool]]] = [
            lambda: self._acquire_all_ahead(pools),
            lambda: self._report(pools, report_time),
            lambda: self._return_leftovers(others),
        ]
        if look_around:
            parts.append(lambda: self._look_around(pools))
        fine = True
        failures = []
        for part in parts:  # a list that NetBox fails to return must not hold the reports back, nor they the list
            try:
                fine &= await part()
            except NetBoxError as failure:
                failures.append(failure)
        if failures:
            raise failures[0]
        return fine

    async def _acquire_all_ahead(self, pools: Iterable[BoundPool]) -> bool:
        return all([await self._acquire_ahead(pool) for pool in pools])

    async def _return_leftovers(self, pools: Iterable[BoundPool]) -> bool:
        work = return_leftover_blocks
        return all([await self._attempt(pool, work(self._database, self._netbox, pool)) for pool in pools])

    async def _look_around(self, pools: Iterable[BoundPool]) -> bool:
        """Compare the pools with NetBox, and return spare blocks."""
        database, netbox = self._database, self._netbox
        now = time.monotonic()
        fine = True
        for pool in pools:
            fine &= await self._attempt(pool, update_foreign_prefixes(database, netbox, pool, self._quarantine))
            fine &= await self._attempt(pool, report_use(database, netbox, pool))
            fine &= await self._attempt(pool, prefer_fuller_blocks(database, pool))
            fine &= await self._attempt(pool, return_spare_blocks(database, netbox, pool))
        self._looked_around = now
        return fine

    async def _report(self, pools: Iterable[BoundPool], report_time: timedelta) -> bool:
        """Report prefixes to NetBox, of those pools first whose turn was longest ago."""
        end = time.monotonic() + report_time.total_seconds()
        fine = True
        for pool in sorted(pools, key=lambda pool: self._reported.get(pool.id, float("-inf"))):
            if (seconds := end - time.monotonic()) > 0:
                self._reported[pool.id] = time.monotonic()
                fine &= await self._attempt(pool, drain(self._database, self._netbox, pool, seconds=seconds))
        self._behind = time.monotonic() >= end
        return fine

    async def _acquire_ahead(self, pool: BoundPool) -> bool:
        """Acquire the next block when few slots are free. If that fails, orders that need a block report it."""
        if pool.id in self._without_block:
            return True
        free_slots = max(1, block_size(pool) // LOW)
        fine = await self._attempt(pool, acquire_block(self._database, self._netbox, pool, free_slots=free_slots))
        if not fine:
            self._without_block.add(pool.id)
        return fine

    @staticmethod
    async def _attempt(pool: BoundPool, work: Awaitable[object]) -> bool:
        try:
            await work
        except POOL_ERRORS as failure:
            log.warning("block_maintenance.pool_failed", pool=str(pool), reason=_line(failure))
            return False
        return True


def _line(failure: Exception) -> str:
    """Return a line for the log: of a database's error only the type, since its message may quote personal data."""
    words = "" if isinstance(failure, SQLAlchemyError) else str(failure).partition("\n")[0]
    return words or type(failure).__name__
