"""A cluster-wide lock (PostgreSQL advisory lock), released when its connection ends."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from lastmile.db import Database

__all__ = ["exclusive"]

_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('lastmile/' || :work, 0))")
_LOCK_IN_TURN = text("SELECT true FROM pg_advisory_lock(hashtextextended('lastmile/' || :work, 0))")
_UNLOCK = text("SELECT pg_advisory_unlock(hashtextextended('lastmile/' || :work, 0))")

LOCK_NOT_AVAILABLE = "55P03"
"""The SQLSTATE after `lock_timeout`."""


@asynccontextmanager
async def exclusive(database: Database, work: str, *, patience: float = 0) -> AsyncIterator[bool]:
    """Hold the lock named `work` within the block; yield whether it was acquired.

    With `patience`, wait that many seconds for it. A caller that waits comes before callers that do not. The block uses
    one connection without a transaction.
    """
    async with database.engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        ours = await _in_turn(connection, work, patience) if patience else await _at_once(connection, work)
        try:
            yield ours
        finally:
            if ours:
                try:
                    await connection.execute(_UNLOCK, {"work": work})
                except BaseException:
                    await connection.invalidate()  # or the lock would stay with a connection of the pool
                    raise


async def _at_once(connection: AsyncConnection, work: str) -> bool:
    return bool(await connection.scalar(_LOCK, {"work": work}))


async def _in_turn(connection: AsyncConnection, work: str, patience: float) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            return bool(await connection.scalar(_LOCK_IN_TURN, {"work": work}))
        except DBAPIError as failure:
            if getattr(failure.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
    return False
