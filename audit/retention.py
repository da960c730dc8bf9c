"""How long history is kept, and its end."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from db import PlatformConnection

__all__ = ["Forgotten", "forget"]


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


async def forget(connection: PlatformConnection, age: timedelta, *, batch: int) -> Forgotten:
    """Delete the oldest of what is older than `age`: up to `batch` entries of the trail, and the events of up to
    `batch` delegations that ended then. Nothing is left to delete when both counts are 0.
    """
    given = {"age": age, "batch": batch}
    return Forgotten(*[(await connection.execute(statement, given)).rowcount for statement in (_TRAIL, _EVENTS)])
