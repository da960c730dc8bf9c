"""Migrations of the database schema, run by the login that owns the tables."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from lastmile.db.database import async_url
from lastmile.errors import NonRetryableError

__all__ = ["PostgresTooOldError", "UnknownSchemaError", "check_version", "downgrade", "pending", "upgrade"]

OLDEST = 15
"""The first with UNIQUE NULLS NOT DISTINCT."""

# The migrations of before the first release, which the initial schema replaces.
_DEVELOPMENT = frozenset(f"{number:04}" for number in range(1, 20))

# Any constant that nothing else in the database uses: two stacks that start at once must not migrate at once.
_ADVISORY_LOCK = 0x6C6D6967


class PostgresTooOldError(NonRetryableError):
    """A PostgreSQL that cannot have our tables."""


class UnknownSchemaError(NonRetryableError):
    """A database whose schema another Lastmile has made, and this one cannot migrate."""

    def __init__(self, revision: str) -> None:
        self.is_development = revision in _DEVELOPMENT
        """Whether the schema is from before the first release."""
        if self.is_development:
            problem = f"This database was made by a Lastmile of before its first release (schema {revision})"
            remedy = "create an empty database, and name it with DATABASE_OWNER_URL and DATABASE_URL"
        else:
            problem = f"This database was made by a newer Lastmile (schema {revision})"
            remedy = "install that version"
        super().__init__(f"{problem} and cannot be migrated: {remedy}. Nothing was changed.")


def check_version(number: int) -> None:
    """Raise `PostgresTooOldError` unless a PostgreSQL of this `server_version_num` can have our tables."""
    major, minor = divmod(number, 10_000)
    if major < OLDEST:
        raise PostgresTooOldError(
            f"This is PostgreSQL {major}.{minor}, and Lastmile needs {OLDEST} or newer: upgrade it, or name another "
            "with DATABASE_OWNER_URL and DATABASE_URL. Nothing was changed."
        )


async def upgrade(owner_url: str) -> None:
    """Bring the database to the newest schema; change nothing in a database that has it.

    Raises `PostgresTooOldError` and `UnknownSchemaError`.
    """
    await _run(owner_url, lambda config: command.upgrade(config, "head"))


async def downgrade(owner_url: str, to: str = "base") -> None:
    """Undo migrations down to revision `to` (default: all of them, with all data)."""
    await _run(owner_url, lambda config: command.downgrade(config, to))


async def pending(owner_url: str) -> list[str]:
    """Return the revisions that the database lacks, oldest first; none where a newer Lastmile has migrated it.

    Raises `UnknownSchemaError` where a Lastmile of before the first release has made the database.
    """

    def missing(connection: Connection) -> list[str]:
        script = ScriptDirectory.from_config(_config())
        try:
            current = _revision(connection, script)
        except UnknownSchemaError as failure:
            if failure.is_development:
                raise
            return []  # while workers are upgraded, those of the old version work on the new schema
        return [r.revision for r in script.iterate_revisions("heads", current or "base")][::-1]

    engine = create_async_engine(async_url(owner_url), poolclass=NullPool)
    async with engine.connect() as connection:
        return await connection.run_sync(missing)


async def _run(owner_url: str, migrate: Callable[[Config], None]) -> None:
    def locked(connection: Connection) -> None:
        check_version(int(connection.execute(text("SHOW server_version_num")).scalar_one()))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        config = _config()
        _revision(connection, ScriptDirectory.from_config(config))
        config.attributes["connection"] = connection
        migrate(config)

    engine = create_async_engine(async_url(owner_url), poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(locked)


def _revision(connection: Connection, script: ScriptDirectory) -> str | None:
    """Return the database's revision; None in an empty database. Raises `UnknownSchemaError`."""
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {known.revision for known in script.walk_revisions()}:
        raise UnknownSchemaError(current)
    return current


def _config() -> Config:
    return Config(Path(__file__).with_name("alembic.ini"))
