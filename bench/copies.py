"""Copies of a migrated database, each for one benchmark to fill as it likes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import make_url

__all__ = ["SETTLE", "as_owner", "copied", "url_of"]

SETTLE = ("VACUUM ANALYZE", "CHECKPOINT")
"""As autovacuum does within a minute; and what filling it left to write is not written meanwhile."""


@asynccontextmanager
async def copied(template_url: str, name: str, setting: str = "") -> AsyncIterator[str]:
    """The owner's URL of a copy, with a `setting` of its own; dropped afterwards. The template has no connections."""
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
    """The same server's URL for another database."""
    return make_url(url).set(database=database).render_as_string(hide_password=False)


async def as_owner(owner_url: str, *scripts: str) -> None:
    """Run these, one after the other, each by itself."""
    owner = await asyncpg.connect(owner_url)
    try:
        for script in scripts:
            await owner.execute(script)
    finally:
        await owner.close()
