"""What the workers do for delegated pools by the way, one at a time: `ipam.blocks`, ahead of need, and `ipam.outbox`.

Nothing depends on it being done at any moment: an allocation that finds no room takes a block by itself.
"""

import asyncio
import time
from datetime import timedelta
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db import Database
from ipam import blocks
from ipam.binding import Record
from ipam.blocks import BlockOverlaps, block_size
from ipam.bound import BoundPool
from ipam.errors import PoolMoved
from ipam.netbox import NetBox
from ipam.netbox.errors import NetBoxError
from ipam.outbox import drain
from ipam.returning import give_back
from ipam.sole import only_one
from ipam.strangers import look

__all__ = ["Keeper"]

BEAT = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=1)
"""After failures: what NetBox cannot do now is asked again so seldom at last."""
LOOK_EVERY = timedelta(minutes=1)
"""How old the figures in NetBox may be, and how old what people have made there when we see it."""
LOW = 4
"""The next block is taken when less than this part of one is free."""

FAILURES = (NetBoxError, BlockOverlaps, PoolMoved, SQLAlchemyError, OSError, TimeoutError)

log = structlog.get_logger("lastmile.keeper")


class Keeper:
    """Of all delegated pools, in this process; at work between `async with` and its end."""

    def __init__(self, database: Database, netbox: NetBox, rest: timedelta) -> None:
        """`rest` is how long a prefix rests whose former use nobody confirmed to have ended."""
        self._rest = rest
        self._database = database
        self._netbox = netbox
        self._pause = BEAT
        self._looked_around = float("-inf")

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])

    async def _run(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(self._pause.total_seconds())

    async def beat(self) -> bool:
        """Do what is to be done now, unless another worker is at it; whether all of it succeeded."""
        try:
            async with only_one(self._database, "keeper") as ours:
                fine = await self._everything() if ours else True
        except (SQLAlchemyError, OSError, TimeoutError) as failure:
            log.warning("keeper.database_away", reason=type(failure).__name__)
            fine = False
        self._pause = BEAT if fine else min(2 * self._pause, LONGEST_PAUSE)
        return fine

    async def _everything(self) -> bool:
        async with self._database.platform() as connection:
            pools = await blocks.delegated_pools(connection)
        fine = True
        look_around = time.monotonic() - self._looked_around >= LOOK_EVERY.total_seconds()
        for pool in pools:
            # One pool that NetBox has lost is no reason to leave the others alone.
            try:
                await self._look_after(pool, look_around=look_around)
            except FAILURES as failure:
                log.warning("keeper.failed", pool=str(pool), reason=str(failure).partition("\n")[0])
                fine = False
        if look_around and fine:
            self._looked_around = time.monotonic()
        return fine

    async def _look_after(self, pool: BoundPool, *, look_around: bool) -> None:
        await blocks.take(self._database, self._netbox, pool, wanted=max(1, block_size(pool) // LOW))
        if look_around:
            await look(self._database, self._netbox, pool, self._rest)
            await blocks.tell_use(self._database, self._netbox, pool)
            await give_back(self._database, self._netbox, pool)
        if pool.netbox.record is Record.PREFIX:
            await drain(self._database, self._netbox, pool)
