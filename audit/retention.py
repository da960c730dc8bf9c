"""How long history is kept, and its end."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from db import Database, PlatformConnection

__all__ = ["Batch", "Forgotten", "delete_ended", "forget", "forget_all", "to_forget"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What one batch deleted."""

    entries: int
    """Of the trail."""
    events: int
    """Of delegations."""


_TRAIL = text(
    """
    DELETE FROM trail WHERE id IN (
        SELECT id FROM trail WHERE at < now() - CAST(:age AS interval) ORDER BY at LIMIT :batch)
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
_TO_FORGET = text(
    """
    SELECT (SELECT count(*) FROM trail WHERE at < now() - CAST(:age AS interval)),
           (SELECT count(*) FROM delegation_events WHERE delegation_id IN (
               SELECT delegation_id FROM delegation_events e
               WHERE to_state = 'revoked' AND at < now() - CAST(:age AS interval)
                 AND NOT EXISTS (SELECT FROM delegations d WHERE d.id = e.delegation_id AND d.released_at IS NULL)))
    """
)


async def forget(connection: PlatformConnection, age: timedelta, *, batch: int) -> Forgotten:
    """Delete the oldest of what is older than `age`: up to `batch` entries of the trail, and the events of up to
    `batch` delegations that ended then. Nothing is left to delete when both counts are 0.
    """
    given = {"age": age, "batch": batch}
    return Forgotten(*[(await connection.execute(statement, given)).rowcount for statement in (_TRAIL, _EVENTS)])


BATCH = 5_000
"""So that each transaction ends within a statement's time-out."""


async def forget_all(database: Database, age: timedelta, *, actor: str) -> AsyncIterator[Forgotten]:
    """`forget` until nothing is left, each batch in a transaction of its own, as `actor`'s doing."""
    while True:
        async with database.platform(actor=actor) as connection:
            gone = await forget(connection, age, batch=BATCH)
        if not (gone.entries or gone.events):
            return
        yield gone


async def to_forget(connection: PlatformConnection, age: timedelta) -> Forgotten:
    """What `forget` would delete, all in all."""
    return Forgotten(*(await connection.execute(_TO_FORGET, {"age": age})).one())


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the delegations that ended, the oldest first."""

    deleted: int
    after: tuple[datetime, int] | None
    """Where the next batch begins; None: this was the last."""


# By places, all at once: a join takes twice as long.
# Nothing refers to a delegation that was released: its slot forgot it, and its events and what is to be removed from
# NetBox stand for themselves. But its key must not be free again while the order that it names may still act.
_OLD = """
    SELECT d.ctid AS place, d.released_at, d.id, (d.tenant_id, d.created_by_order) IN (
        SELECT tenant_id, order_id FROM orders WHERE status IN ('running', 'rolling_back')) AS wanted
    FROM delegations d
    WHERE d.released_at < now() - CAST(:age AS interval)
      AND (d.released_at, d.id) > (coalesce(CAST(:since AS timestamptz), '-infinity'), coalesce(CAST(:id AS bigint), 0))
    ORDER BY d.released_at, d.id LIMIT :batch
"""
_LAST = "ORDER BY released_at DESC, id DESC LIMIT 1"
_DELETE_ENDED = text(
    f"""
    WITH old AS MATERIALIZED ({_OLD}), gone AS (
        DELETE FROM delegations WHERE ctid = ANY (ARRAY (SELECT place FROM old WHERE NOT wanted)) RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) AS deleted, (SELECT count(*) FROM old) AS seen, released_at, id FROM old {_LAST}
    """
)
_COUNT_ENDED = text(
    f"""
    WITH old AS MATERIALIZED ({_OLD})
    SELECT (SELECT count(*) FROM old WHERE NOT wanted) AS deleted, (SELECT count(*) FROM old) AS seen, released_at, id
    FROM old {_LAST}
    """
)


async def delete_ended(
    connection: PlatformConnection,
    age: timedelta,
    after: tuple[datetime, int] | None = None,
    *,
    batch: int,
    dry_run: bool = False,
) -> Batch:
    """Delete delegations that were released longer than `age` ago; not their events. A dry run only counts them.

    `age` must not be less than the longest quarantine: whose prefix it was that rests would be forgotten.
    """
    since, id_ = after or (None, None)
    found = await connection.execute(
        _COUNT_ENDED if dry_run else _DELETE_ENDED, {"age": age, "since": since, "id": id_, "batch": batch}
    )
    row = found.one_or_none()
    if row is None:
        return Batch(0, None)
    return Batch(row.deleted, (row.released_at, row.id) if row.seen == batch else None)
