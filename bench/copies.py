"""Copies of a migrated database, one for each benchmark."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import make_url

__all__ = ["SETTLE", "as_owner", "copied", "url_of"]

SETTLE = ("VACUUM ANALYZE", "CHECKPOINT")
"""The statements before a measurement. Otherwise autovacuum and pending writes of the fill would run during it."""


@asynccontextmanager
async def copied(template_url: str, name: str, setting: str = "") -> AsyncIterator[str]:
    """Provide the owner's URL of a copy with a database `setting`, and drop the copy afterwards.

    The template must have no connections.
    """
    admin = await asyncpg.connect(url_of(template_url, "postgres"))
    try:
        await admin.execute(f'CREATE DATABASE {name} TEMPLATE "{make_url(template_url).database}"')
        try:
            if setting:
                await admin.execute(f"ALTER DATABASE {name} {setting}")
            yield url_of(template_url, name)
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


def url_of(url: str, database: str) -> str:
    """Return the URL of another database on the same server."""
    return make_url(url).set(database=database).render_as_string(hide_password=False)


async def as_owner(owner_url: str, *scripts: str) -> None:
    """Run the scripts one after the other, each in its own transaction."""
    owner = await asyncpg.connect(owner_url)
    try:
        for script in scripts:
            await owner.execute(script)
    finally:
        await owner.close()
