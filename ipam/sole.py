"""Work that one worker does for all: a lock of PostgreSQL's that ends with who holds it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text

from db import Database

__all__ = ["only_one"]

_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('lastmile/' || :work, 0))")
_UNLOCK = text("SELECT pg_advisory_unlock(hashtextextended('lastmile/' || :work, 0))")


@asynccontextmanager
async def only_one(database: Database, work: str) -> AsyncIterator[bool]:
    """Whether this is the only one at `work` now. It takes one connection, without a transaction, for as long."""
    async with database.engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        ours = bool(await connection.scalar(_LOCK, {"work": work}))
        try:
            yield ours
        finally:
            if ours:
                try:
                    await connection.execute(_UNLOCK, {"work": work})
                except BaseException:
                    await connection.invalidate()  # or the lock would stay with a connection of the pool
                    raise
