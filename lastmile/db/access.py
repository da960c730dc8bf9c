"""A database for one program run, with each failure to use it raised as `UnavailableError`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lastmile.db.database import Database
from lastmile.db.failures import DATABASE_FAILURES, explain, without_password
from lastmile.errors import UnavailableError

__all__ = ["database_failures", "open_database"]


@asynccontextmanager
async def open_database(url: str, *, pool_size: int) -> AsyncIterator[Database]:
    """Open the database, and close its connections at the end. Raises `UnavailableError`."""
    database = Database(url, pool_size=pool_size)
    try:
        async with database_failures(url):
            yield database
    finally:
        await database.close()


@asynccontextmanager
async def database_failures(url: str) -> AsyncIterator[None]:
    """Raise `UnavailableError` if the database is away or has no Lastmile schema; other failures pass unchanged."""
    try:
        yield
    except DATABASE_FAILURES as failure:
        if (words := explain(failure, url)) is None:
            raise
        raise UnavailableError(f"The database {without_password(url)} cannot be used: {words}") from failure
