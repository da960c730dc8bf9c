"""Overlaps of seconds in place of hours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

__all__ = ["short_overlaps"]

_SHORTEN = """
    CREATE FUNCTION shorten_overlap() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.replaced_until := NEW.replaced_at + interval '{seconds} s';
        RETURN NEW;
    END $$;
    CREATE TRIGGER shorten_overlap BEFORE UPDATE ON delegations FOR EACH ROW
    WHEN (OLD.replaced_at IS NULL AND NEW.replaced_at IS NOT NULL) EXECUTE FUNCTION shorten_overlap()
"""


@asynccontextmanager
async def short_overlaps(owner: asyncpg.Connection | asyncpg.Pool, seconds: float = 1) -> AsyncIterator[None]:
    """Let each overlap that begins meanwhile last for these seconds, whatever its order says."""
    await owner.execute(_SHORTEN.format(seconds=seconds))
    try:
        yield
    finally:
        await owner.execute("DROP FUNCTION shorten_overlap CASCADE")
