"""A pool changes its mode while orders go on: what is held keeps its prefix, and NetBox comes to show what the mode
says.

Into NetBox, blocks are taken around all that is held or rests, then the pool is delegated in one transaction
(`ipam.netbox.mode_change.conversion`). To have NetBox choose, it is delegated first, with a record of each prefix,
until NetBox has been told of all; then its blocks are given back.
So wherever a change is cut off the pool is of one mode, with blocks that
it does not need at worst, and the same change again goes on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import text

from ipam.errors import InvalidPoolError, PoolBusyError
from ipam.netbox import NetBox
from ipam.netbox.binding import AllocationMode, Binding, BoundPool, ReportingScope
from ipam.netbox.delegated.block_acquisition import BlockOverlapError, take
from ipam.netbox.delegated.block_return import return_closed
from ipam.netbox.delegated.blocks import BlockState, blocks_of
from ipam.netbox.delegated.foreign_prefixes import check_no_conflict, look
from ipam.netbox.delegated.outbox import backlog, drain
from ipam.netbox.errors import NetBoxExhaustedError
from ipam.netbox.mode_change.block_adoption import missing_blocks, surround
from ipam.netbox.mode_change.conversion import (
    ConversionNotReadyError,
    adjust,
    become_delegated,
    become_direct,
    changed,
    rebind,
)
from ipam.pools import Pool, list_pools
from lastmile.db import Database
from lastmile.db.advisory_lock import KEEPERS_ROUND, exclusive

__all__ = ["change"]

# What others do at this moment is over in seconds, but for an order that is retried.
ROUNDS = 60
ROUND = timedelta(seconds=1)
# How long orders wait for a change that was cut off.
CLOSED = timedelta(minutes=1)

_ID = text("SELECT id FROM pools WHERE name = :name AND tenant_id IS NOT DISTINCT FROM :tenant")

_CLOSE = (
    text("SELECT FROM pools WHERE id = :pool_id FOR UPDATE"),  # after whoever is about to begin
    text("UPDATE pools SET netbox_closed_until = now() + CAST(:closed AS interval) WHERE id = :pool_id"),
)
_REOPEN = text("UPDATE pools SET netbox_closed_until = NULL WHERE id = :pool_id")

_WAITING = text(
    """
    SELECT subscriber_ref FROM delegations
    WHERE pool_id = :pool_id AND prefix IS NULL AND released_at IS NULL ORDER BY id LIMIT 3
    """
)

_NOT_TO_BE_HAD = text("DELETE FROM netbox_blocks WHERE pool_id = :pool_id AND state = 'taking' AND prefix IS NULL")

_OTHERWISE = text(
    """
    UPDATE netbox_blocks SET state = 'returning', since = now()
    WHERE pool_id = :pool_id AND state = 'open' AND masklen(prefix) <> :block_length
    """
)


async def change(
    database: Database,
    netbox: NetBox,
    pool: Pool,
    wanted: Binding,
    *,
    rest: timedelta,
    tell: Callable[[str], None] = lambda _: None,
    actor: str = "",
) -> None:
    """Bring the pool, which is as `pool` says, to `wanted`; `tell` is told how it gets on.

    `rest` is how long a prefix rests whose former use nobody confirmed to have ended. Raises `InvalidPoolError`,
    `ForeignPrefixesError`, `PoolBusyError` and `NetBoxError`: then the pool is of the mode that it had or, on the way
    to direct, delegated with a record of each prefix.
    """
    async with database.platform() as connection:
        id = await connection.scalar(_ID, {"name": pool.name, "tenant": pool.tenant})
    before = pool.netbox
    there = BoundPool(id or 0, pool.name, pool.prefix, pool.delegated_length, wanted)
    way = BoundPool(there.id, there.name, there.prefix, there.length, _by_way_of(pool, wanted))
    changing = _Change(database, netbox, way, rest, tell, actor)
    if before is not None and before.mode is wanted.mode is AllocationMode.DIRECT:
        async with _alone(database):
            await _still(database, pool)
            async with database.platform(actor=actor) as connection:
                await rebind(connection, there)
        return
    async with _alone(database):
        await _still(database, pool)
        if before is not None and before.mode is AllocationMode.DELEGATED:
            await changing.adjust(before)
        else:
            await changing.delegate(direct=before is not None)
    if wanted.mode is AllocationMode.DIRECT:
        await changing.share(there)


async def _still(database: Database, pool: Pool) -> None:
    """Raise `PoolBusyError` unless the pool is as it was read before its turn came."""
    async with database.platform() as connection:
        if all(use.pool != pool for use in await list_pools(connection)):
            raise PoolBusyError(changed(pool.name))


def _by_way_of(pool: Pool, wanted: Binding) -> Binding:
    """The delegated mode that is wanted, or that comes before a direct one."""
    if wanted.mode is AllocationMode.DELEGATED:
        return wanted
    length = pool.netbox.block_length if pool.netbox else None
    step = wanted.model_copy(
        update={"mode": AllocationMode.DELEGATED, "record": ReportingScope.PREFIX, "block_length": length}
    )
    try:
        described = Pool.model_validate(pool.model_dump() | {"netbox": step})
    except ValidationError as failure:
        why = failure.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidPoolError(
            f"{pool.name} cannot be delegated, with a record of each prefix, on its way: {why}"
        ) from None
    assert described.netbox is not None
    return described.netbox


class _Change:
    """The steps, of one pool."""

    def __init__(
        self,
        database: Database,
        netbox: NetBox,
        pool: BoundPool,
        rest: timedelta,
        tell: Callable[[str], None],
        actor: str,
    ) -> None:
        self._database = database
        self._netbox = netbox
        self._pool = pool
        """Delegated, as it will be."""
        self._rest = rest
        self._tell = tell
        self._actor = actor
        self._place = {"pool_id": pool.id}

    async def delegate(self, *, direct: bool) -> None:
        """From the database alone, or from direct."""
        try:
            for _ in range(ROUNDS):
                await self._return_others()
                await self._surround()
                if direct:
                    await self._quiet()
                    await self._surround()
                await look(self._database, self._netbox, self._pool, self._rest)
                if direct:
                    await self._close()  # for as long again: to look at a big pool takes its time
                try:
                    async with self._database.at_leisure(actor=self._actor) as connection:
                        await become_delegated(connection, self._pool, direct=direct)
                    return
                except ConversionNotReadyError:
                    continue  # orders have gone on into the next block
            raise PoolBusyError(
                f"orders take prefixes of pool {self._pool} faster than blocks are taken: try again later"
            )
        finally:
            await self._reopen()

    async def adjust(self, before: Binding) -> None:
        """Of one delegated mode to another."""
        if before.record is not self._pool.netbox.record is ReportingScope.PREFIX:
            async with self._database.platform() as connection:
                blocks = await blocks_of(connection, self._pool)
            if any(block.prefix is not None and block.prefix.prefixlen == self._pool.length for block in blocks):
                raise PoolBusyError(
                    f"pool {self._pool} has blocks of one prefix each, and NetBox has no prefix twice: it can be "
                    "told of each prefix once those have gone back"
                )
        for _ in range(ROUNDS):
            await self._settle_block()
            try:
                async with self._database.at_leisure(actor=self._actor) as connection:
                    await adjust(connection, self._pool, before)
                return
            except ConversionNotReadyError:
                continue
        raise PoolBusyError(f"orders take blocks of pool {self._pool} all the time: try again later")

    async def share(self, pool: BoundPool) -> None:
        """From delegated, with a record of each prefix, to direct, as in `pool`."""
        for _ in range(ROUNDS):
            await self._tell_netbox()
            async with _alone(self._database):
                await self._settle_block()
                try:
                    await self._close()
                    async with self._database.at_leisure(actor=self._actor) as connection:
                        await become_direct(connection, pool)
                    await return_closed(self._database, self._netbox, pool)
                    return
                except ConversionNotReadyError:
                    pass
                finally:
                    await self._reopen()
            await asyncio.sleep(ROUND.total_seconds())
        raise PoolBusyError(
            f"prefixes of pool {self._pool} change faster than NetBox is told of them: the same change again goes on. "
            "Until then the pool is delegated"
        )

    async def _surround(self) -> None:
        """Take a block around whatever is held, rests or is within reach."""
        missing = await missing_blocks(self._database, self._pool)
        await check_no_conflict(self._database, self._netbox, self._pool, missing)
        for number, prefix in enumerate(missing, start=1):
            await surround(self._database, self._netbox, self._pool, prefix)
            self._tell(f"block {prefix} taken, {number:,} of {len(missing):,}")

    async def _return_others(self) -> None:
        """Those that an earlier change has left, and that are of another length than wanted now."""
        async with self._database.platform() as connection:
            await connection.execute(_OTHERWISE, self._place | {"block_length": self._pool.netbox.block_length})
        await return_closed(self._database, self._netbox, self._pool)

    async def _settle_block(self) -> None:
        """Have the block that is being taken, or give it up where NetBox has none."""
        async with self._database.platform() as connection:
            taking = any(block.state is BlockState.TAKING for block in await blocks_of(connection, self._pool))
        if not taking:
            return
        try:
            with suppress(BlockOverlapError):  # put right, and tried again
                await take(self._database, self._netbox, self._pool)
        except NetBoxExhaustedError:
            async with self._database.platform() as connection:
                await connection.execute(_NOT_TO_BE_HAD, self._place)

    async def _quiet(self) -> None:
        """No order begins to ask NetBox, and none is at it. Raises `PoolBusyError`."""
        for _ in range(ROUNDS):
            await self._close()
            async with self._database.platform() as connection:
                waiting = list(await connection.scalars(_WAITING, self._place))
            if not waiting:
                return
            self._tell(f"waiting for the orders of {', '.join(waiting)}, which NetBox is being asked for")
            await asyncio.sleep(ROUND.total_seconds())
        raise PoolBusyError(
            f"orders for {', '.join(waiting)} wait for a prefix of pool {self._pool}: see `lastmile status` of each, "
            "and try again when they have ended"
        )

    async def _tell_netbox(self) -> None:
        """Until NetBox has been told of every prefix: by us, or by the workers' keeper, in turn."""
        while True:
            async with self._database.platform() as connection:
                behind = await backlog(connection, self._pool)
            if behind.refused:
                raise PoolBusyError(
                    f"NetBox refuses {behind.refused:,} prefixes of pool {self._pool}: `lastmile audit` says which and "
                    "why. Fix them there, and the same change again goes on. Until then the pool is delegated"
                )
            if behind.unsettled_until is not None:
                until = f"{behind.unsettled_until:%Y-%m-%d %H:%M:%S %Z}"
                raise PoolBusyError(
                    f"a reply about a prefix of pool {self._pool} was lost, and NetBox may be at work on it still: the "
                    f"same change again goes on after {until}. Until then the pool is delegated"
                )
            if not behind.waiting:
                return
            self._tell(f"prefixes that NetBox has yet to be told of: {behind.waiting:,}")
            async with exclusive(self._database, "keeper") as ours:
                if ours:
                    await drain(self._database, self._netbox, self._pool)
            await asyncio.sleep(ROUND.total_seconds() if behind.waiting > 1 or not ours else 0)

    async def _close(self) -> None:
        async with self._database.platform() as connection:
            for statement in _CLOSE:
                values: dict[str, Any] = self._place | {"closed": CLOSED}
                await connection.execute(statement, {name: values[name] for name in statement.compile().params})

    async def _reopen(self) -> None:
        async with self._database.platform() as connection:
            await connection.execute(_REOPEN, self._place)


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[None]:
    """While no worker looks after the pools. Raises `PoolBusyError`."""
    async with exclusive(database, "keeper", patience=KEEPERS_ROUND) as ours:
        if not ours:
            raise PoolBusyError("a worker has been at work on the pools for a minute: try again later")
        yield
