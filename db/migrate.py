"""Migrations, run by the owner of the tables: from nothing to the newest, and back."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from db.database import async_url
from errors import Refused

__all__ = ["TooOld", "check_version", "downgrade", "pending", "upgrade"]

OLDEST = 15
"""The first with UNIQUE NULLS NOT DISTINCT."""

# Any constant that nothing else in the database uses: two stacks that start at once must not migrate at once.
_ADVISORY_LOCK = 0x6C6D6967


class TooOld(Refused):
    """A PostgreSQL that cannot have our tables."""


def check_version(number: int) -> None:
    """Raise `TooOld` unless a PostgreSQL of this `server_version_num` can have our tables."""
    major, minor = divmod(number, 10_000)
    if major < OLDEST:
        raise TooOld(
            f"This is PostgreSQL {major}.{minor}, and Lastmile needs {OLDEST} or newer: upgrade it, or name another "
            "with DATABASE_OWNER_URL and DATABASE_URL. Nothing was changed."
        )


async def upgrade(owner_url: str) -> None:
    """Bring the database to the newest schema; nothing happens where it is there already. Raises `TooOld`."""
    await _run(owner_url, lambda config: command.upgrade(config, "head"))


async def downgrade(owner_url: str, to: str = "base") -> None:
    """Take migrations back, down to revision `to` (default: all of them, with all data)."""
    await _run(owner_url, lambda config: command.downgrade(config, to))


async def pending(owner_url: str) -> list[str]:
    """Revisions that the database still lacks, oldest first."""

    def missing(connection: Connection) -> list[str]:
        script = ScriptDirectory.from_config(_config())
        current = MigrationContext.configure(connection).get_current_revision()
        return [r.revision for r in script.iterate_revisions("heads", current or "base")][::-1]

    engine = create_async_engine(async_url(owner_url), poolclass=NullPool)
    async with engine.connect() as connection:
        return await connection.run_sync(missing)


async def _run(owner_url: str, migrate: Callable[[Config], None]) -> None:
    def locked(connection: Connection) -> None:
        check_version(int(connection.execute(text("SHOW server_version_num")).scalar_one()))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        config = _config()
        config.attributes["connection"] = connection
        migrate(config)

    engine = create_async_engine(async_url(owner_url), poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(locked)


def _config() -> Config:
    return Config(Path(__file__).with_name("alembic.ini"))
