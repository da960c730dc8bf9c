"""The workers' background work on delegated pools: blocks ahead of need, and the outbox to NetBox.

Nothing depends on it being done at any moment: an allocation that finds no room takes a block by itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable
from datetime import timedelta
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ipam.errors import PoolMovedError
from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool
from ipam.netbox.delegated.block_acquisition import BlockOverlapError, take
from ipam.netbox.delegated.block_return import give_back, give_last, not_delegated, return_left
from ipam.netbox.delegated.block_sync import tell_use
from ipam.netbox.delegated.blocks import block_size, delegated_pools
from ipam.netbox.delegated.foreign_prefixes import look
from ipam.netbox.delegated.outbox import drain
from ipam.netbox.errors import (
    KeyTakenError,
    NetBoxError,
    NetBoxExhaustedError,
    NetBoxInvalidError,
    NetBoxNotFoundError,
    NetBoxTenantMissingError,
)
from lastmile.db import Database
from lastmile.db.advisory_lock import exclusive

__all__ = ["Keeper"]

BEAT = timedelta(seconds=1)
TELLING = timedelta(seconds=5)
"""In one beat, since blocks are more urgent; where there is more to tell, the next one follows at once."""
LONGEST_PAUSE = timedelta(minutes=1)
"""After failures: what NetBox cannot do now is asked again so seldom at last."""
LOOK_EVERY = timedelta(minutes=1)
"""How old the figures in NetBox may be, and how old what people have made there when we see it."""
LOW = 4
"""The next block is taken when less than this part of one is free."""

AWAY = (NetBoxError, SQLAlchemyError, OSError, TimeoutError)
"""Nothing can be done now…"""
HERE = (
    BlockOverlapError,
    PoolMovedError,
    NetBoxExhaustedError,
    NetBoxInvalidError,
    KeyTakenError,
    NetBoxTenantMissingError,
    NetBoxNotFoundError,
)
"""… and what is no reason to leave the rest undone."""

log = structlog.get_logger("lastmile.keeper")


class Keeper:
    """Of all delegated pools, in this process; at work between `async with` and its end."""

    def __init__(self, database: Database, netbox: NetBox, rest: timedelta) -> None:
        """`rest` is how long a prefix rests whose former use nobody confirmed to have ended."""
        self._rest = rest
        self._database = database
        self._netbox = netbox
        self.pause = BEAT
        """Until the next beat."""
        self._looked_around = float("-inf")
        self._told: dict[int, float] = {}
        """When NetBox was last told of each pool, by its id."""
        self._behind = False
        """Whether the last beat ended with more to tell."""
        self._without_block: set[int] = set()
        """Pools that no further block could be taken of since."""

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])

    async def _run(self) -> None:
        while True:
            await self.beat()
            if self._running.cancelling():
                return  # what failed on the way out, with PostgreSQL gone, came in place of the cancellation
            await asyncio.sleep(self.pause.total_seconds())

    async def beat(self, telling: timedelta = TELLING) -> bool:
        """Do what is to be done now, unless another worker is at it; whether all of it succeeded.

        NetBox is told of prefixes for `telling`, or a little longer.
        """
        self._behind = False
        try:
            async with exclusive(self._database, "keeper") as ours:
                fine = await self._everything(telling) if ours else True
        except AWAY as failure:
            log.warning("keeper.away", reason=_line(failure))
        except Exception:  # one that had ended would be missed by nobody
            log.exception("keeper.failed")
        else:
            self.pause = timedelta(0) if self._behind else BEAT
            return fine
        self.pause = min(2 * max(self.pause, BEAT), LONGEST_PAUSE)
        return False

    async def _everything(self, telling: timedelta) -> bool:
        async with self._database.platform() as connection:
            pools = await delegated_pools(connection)
            others = await not_delegated(connection)
        now = time.monotonic()
        look_around = now - self._looked_around >= LOOK_EVERY.total_seconds()
        if look_around:
            self._without_block.clear()
        fine = [await self._look_after(pool, look_around=look_around) for pool in pools]
        fine += [await self._part(pool, return_left(self._database, self._netbox, pool)) for pool in others]
        if look_around:
            self._looked_around = now
        return await self._tell(pools, telling) and all(fine)

    async def _look_after(self, pool: BoundPool, *, look_around: bool) -> bool:
        database, netbox = self._database, self._netbox
        fine = await self._with_room(pool)
        if look_around:
            fine &= await self._part(pool, look(database, netbox, pool, self._rest))
            fine &= await self._part(pool, tell_use(database, netbox, pool))
            fine &= await self._part(pool, give_last(database, pool))
            fine &= await self._part(pool, give_back(database, netbox, pool))
        return fine

    async def _tell(self, pools: Iterable[BoundPool], telling: timedelta) -> bool:
        """Those first whose turn was longest ago."""
        end = time.monotonic() + telling.total_seconds()
        fine = True
        for pool in sorted(pools, key=lambda pool: self._told.get(pool.id, float("-inf"))):
            if (seconds := end - time.monotonic()) > 0:
                self._told[pool.id] = time.monotonic()
                fine &= await self._part(pool, drain(self._database, self._netbox, pool, seconds=seconds))
        self._behind = time.monotonic() >= end
        return fine

    async def _with_room(self, pool: BoundPool) -> bool:
        """Take the next block, if it is time. Where that cannot be, who needs one asks by themselves, and is told."""
        if pool.id in self._without_block:
            return True
        wanted = max(1, block_size(pool) // LOW)
        fine = await self._part(pool, take(self._database, self._netbox, pool, wanted=wanted))
        if not fine:
            self._without_block.add(pool.id)
        return fine

    @staticmethod
    async def _part(pool: BoundPool, work: Awaitable[object]) -> bool:
        try:
            await work
        except HERE as failure:
            log.warning("keeper.held_up", pool=str(pool), reason=_line(failure))
            return False
        return True


def _line(failure: Exception) -> str:
    """For the log: a driver's words may quote a subscriber's data."""
    words = "" if isinstance(failure, SQLAlchemyError) else str(failure).partition("\n")[0]
    return words or type(failure).__name__
