"""The deletion of history that is past its retention."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from lastmile.db import Database, PlatformConnection

__all__ = ["Batch", "Purged", "count_purgeable", "delete_ended", "purge", "purge_all"]


@dataclass(frozen=True, slots=True)
class Purged:
    """The numbers of deleted records."""

    entries: int
    """Entries of the audit log."""
    events: int
    """Events of delegations."""


_DELETE_ENTRIES = text(
    """
    DELETE FROM audit_log WHERE id IN (
        SELECT id FROM audit_log WHERE at < now() - CAST(:age AS interval) ORDER BY at LIMIT :batch)
    """
)

# The password of an order that was refused before its steps, and of an order that never ran.
_DELETE_PASSWORDS = text(
    """
    DELETE FROM given_passwords p WHERE created_at < now() - CAST(:age AS interval) OR EXISTS (
        SELECT FROM orders o
        WHERE o.tenant_id = p.tenant_id AND o.order_id = p.order_id AND NOT lastmile_order_unfinished(o.status))
    """
)

_DELETE_FORMER_USERNAMES = text("DELETE FROM former_usernames WHERE logins_until < now() - CAST(:age AS interval)")

# An answer is repeated for 24 hours. A caller that is idle may send its whole burst, as a caller without a row may.
_DELETE_ANSWERS = text("DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'")
_DELETE_HOOK_EVENTS = text("DELETE FROM hook_events WHERE received_at < now() - CAST(:age AS interval)")
_DELETE_RATE_LIMITS = text("DELETE FROM rate_limits WHERE idle_at < now()")

# All events of a delegation stay until `age` after its end: the first and the last of them say who held the prefix at a
# past time.
_DELETE_EVENTS = text(
    """
    DELETE FROM delegation_events WHERE delegation_id IN (
        SELECT delegation_id FROM delegation_events e
        WHERE to_state = 'revoked' AND at < now() - CAST(:age AS interval)
          AND NOT EXISTS (SELECT FROM delegations d WHERE d.id = e.delegation_id AND d.released_at IS NULL)
        ORDER BY at LIMIT :batch)
    """
)


# The conditions of `_DELETE_ENTRIES` and `_DELETE_EVENTS`, without the limit of a batch.
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
    """Delete the oldest history that is older than `age`, and return the numbers of deleted records.

    A call deletes up to `batch` entries of the audit log, and the events of up to `batch` ended delegations. When both
    numbers are 0, no such history is left.
    """
    given = {"age": age, "batch": batch}
    await connection.execute(_DELETE_PASSWORDS, {"age": age})
    await connection.execute(_DELETE_FORMER_USERNAMES, {"age": age})
    await connection.execute(_DELETE_ANSWERS)
    await connection.execute(_DELETE_RATE_LIMITS)
    await connection.execute(_DELETE_HOOK_EVENTS, {"age": age})
    return Purged(
        *[(await connection.execute(statement, given)).rowcount for statement in (_DELETE_ENTRIES, _DELETE_EVENTS)]
    )


BATCH = 5_000
"""Rows of one transaction. A larger batch could exceed the statement time-out."""


async def purge_all(database: Database, age: timedelta, *, actor: str) -> AsyncIterator[Purged]:
    """Delete all history older than `age`, each batch in its own transaction, and yield the numbers of each batch.

    `actor` is the name in the audit log.
    """
    while True:
        async with database.platform(actor=actor) as connection:
            purged = await purge(connection, age, batch=BATCH)
        if not (purged.entries or purged.events):
            return
        yield purged


async def count_purgeable(connection: PlatformConnection, age: timedelta) -> Purged:
    """Return the numbers of records that `purge_all` would delete."""
    return Purged(*(await connection.execute(_COUNT_PURGEABLE, {"age": age})).one())


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of ended delegations, the oldest first."""

    deleted: int
    after: tuple[datetime, int] | None
    """The position at which the next batch begins; None: this batch was the last."""


_ENDED = """
    released_at < now() - CAST(:age AS interval)
    AND (released_at, id) > (coalesce(CAST(:since AS timestamptz), '-infinity'), coalesce(CAST(:id AS bigint), 0))
"""
_END = text(
    f"""
    SELECT released_at, id FROM delegations WHERE {_ENDED}
    ORDER BY released_at, id OFFSET CAST(:batch AS bigint) - 1 LIMIT 1
    """
)

# No other row refers to a released delegation: its slot, its events and its pending removals do not need it. But while
# the order that created the delegation is open, a retried step must still find its allocation key.
_BATCH = f"""
    FROM delegations WHERE {_ENDED}
    AND (released_at, id) <= (coalesce(CAST(:end AS timestamptz), 'infinity'), coalesce(CAST(:end_id AS bigint), 0))
    AND (tenant_id, created_by_order) NOT IN (
        SELECT tenant_id, order_id FROM orders WHERE lastmile_order_unfinished(status))
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
    """Delete delegations that were released more than `age` ago, but not their events. A dry run only counts them.

    `age` must be at least the longest quarantine. Otherwise the last holder of a prefix in quarantine would be lost.
    """
    since, id_ = after or (None, None)
    given = {"age": age, "since": since, "id": id_}
    row = (await connection.execute(_END, given | {"batch": batch})).one_or_none()
    end = None if row is None else (row.released_at, row.id)
    given |= dict(zip(("end", "end_id"), end or (None, None), strict=True))
    if dry_run:
        return Batch(int(await connection.scalar(_COUNT_ENDED, given) or 0), end)
    return Batch((await connection.execute(_DELETE_ENDED, given)).rowcount, end)
