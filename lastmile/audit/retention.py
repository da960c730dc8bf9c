"""How long history is kept, and its end."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from lastmile.db import Database, PlatformConnection

__all__ = ["Batch", "Purged", "count_purgeable", "delete_ended", "purge", "purge_all"]


@dataclass(frozen=True, slots=True)
class Purged:
    """What one batch deleted."""

    entries: int
    """Of the audit log."""
    events: int
    """Of delegations."""


_TRAIL = text(
    """
    DELETE FROM audit_log WHERE id IN (
        SELECT id FROM audit_log WHERE at < now() - CAST(:age AS interval) ORDER BY at LIMIT :batch)
    """
)

# A delegation keeps all its events for as long as it lasts, and for `age` after its end: together they say who had
# the prefix from when to when.
_EVENTS = text(
    """
    DELETE FROM delegation_events WHERE delegation_id IN (
        SELECT delegation_id FROM delegation_events e
        WHERE to_state = 'revoked' AND at < now() - CAST(:age AS interval)
          AND NOT EXISTS (SELECT FROM delegations d WHERE d.id = e.delegation_id AND d.released_at IS NULL)
        ORDER BY at LIMIT :batch)
    """
)


# As `_TRAIL` and `_EVENTS` would, in as many batches as it takes.
_COUNT_PURGEABLE = text(
    """
    SELECT (SELECT count(*) FROM audit_log WHERE at < now() - CAST(:age AS interval)),
           (SELECT count(*) FROM delegation_events WHERE delegation_id IN (
               SELECT delegation_id FROM delegation_events e
               WHERE to_state = 'revoked' AND at < now() - CAST(:age AS interval)
                 AND NOT EXISTS (SELECT FROM delegations d WHERE d.id = e.delegation_id AND d.released_at IS NULL)))
    """
)


async def purge(connection: PlatformConnection, age: timedelta, *, batch: int) -> Purged:
    """Delete the oldest of what is older than `age`: up to `batch` entries of the audit log, and the events of up to
    `batch` delegations that ended then. Nothing is left to delete when both counts are 0.
    """
    given = {"age": age, "batch": batch}
    return Purged(*[(await connection.execute(statement, given)).rowcount for statement in (_TRAIL, _EVENTS)])


BATCH = 5_000
"""So that each transaction ends within a statement's time-out."""


async def purge_all(database: Database, age: timedelta, *, actor: str) -> AsyncIterator[Purged]:
    """`purge` until nothing is left, each batch in a transaction of its own, as `actor`'s doing."""
    while True:
        async with database.platform(actor=actor) as connection:
            gone = await purge(connection, age, batch=BATCH)
        if not (gone.entries or gone.events):
            return
        yield gone


async def count_purgeable(connection: PlatformConnection, age: timedelta) -> Purged:
    """What `purge` would delete, all in all."""
    return Purged(*(await connection.execute(_COUNT_PURGEABLE, {"age": age})).one())


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the delegations that ended, the oldest first."""

    deleted: int
    after: tuple[datetime, int] | None
    """Where the next batch begins; None: this was the last."""


_OLD = """
    released_at < now() - CAST(:age AS interval)
    AND (released_at, id) > (coalesce(CAST(:since AS timestamptz), '-infinity'), coalesce(CAST(:id AS bigint), 0))
"""
_END = text(
    f"""
    SELECT released_at, id FROM delegations WHERE {_OLD}
    ORDER BY released_at, id OFFSET CAST(:batch AS bigint) - 1 LIMIT 1
    """
)

# Nothing refers to a released delegation: its slot no longer names it, and its events and pending removals stand for
# themselves. But its key must not be free again while the order that it names may still act.
_BATCH = f"""
    FROM delegations WHERE {_OLD}
    AND (released_at, id) <= (coalesce(CAST(:end AS timestamptz), 'infinity'), coalesce(CAST(:end_id AS bigint), 0))
    AND (tenant_id, created_by_order) NOT IN (
        SELECT tenant_id, order_id FROM orders WHERE status IN ('running', 'rolling_back'))
"""
_DELETE_ENDED = text(f"DELETE {_BATCH}")
_COUNT_ENDED = text(f"SELECT count(*) {_BATCH}")


async def delete_ended(
    connection: PlatformConnection,
    age: timedelta,
    after: tuple[datetime, int] | None = None,
    *,
    batch: int,
    dry_run: bool = False,
) -> Batch:
    """Delete delegations that were released longer than `age` ago; not their events. A dry run only counts them.

    `age` must not be less than the longest quarantine: the last holder of a prefix in quarantine would be lost.
    """
    since, id_ = after or (None, None)
    given = {"age": age, "since": since, "id": id_}
    row = (await connection.execute(_END, given | {"batch": batch})).one_or_none()
    end = None if row is None else (row.released_at, row.id)
    given |= dict(zip(("end", "end_id"), end or (None, None), strict=True))
    if dry_run:
        return Batch(int(await connection.scalar(_COUNT_ENDED, given) or 0), end)
    return Batch((await connection.execute(_DELETE_ENDED, given)).rowcount, end)
