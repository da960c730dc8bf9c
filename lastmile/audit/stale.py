"""Delegations that are neither in use nor given back, and have been so for too long; each found from an index.

Of no interest here is how few they are: a page at a time, the oldest first.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from lastmile.db import PlatformConnection

__all__ = ["Leak", "Place", "Unfinished", "leaks", "unfinished_revocations"]

Place = tuple[datetime, int]
"""How far a search has come: a moment, and the delegation's id."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A delegation that is allocated and not used."""

    at: Place
    tenant: str
    subscriber_ref: str
    order_id: str
    order_status: str | None
    """What became of its order; one that is still running may wait for a person. None: there is no such order."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A delegation whose revocation began and has not ended: it is being revoked, or was and holds its slot still."""

    at: Place
    tenant: str
    subscriber_ref: str


# The literal states are what lets PostgreSQL use the index `delegations_passing`.
_PAGE = """
    d.released_at IS NULL AND d.state IN ({states}) AND d.state_since < now() - CAST(:age AS interval)
    AND (d.state_since, d.id) > (coalesce(CAST(:since AS timestamptz), '-infinity'), coalesce(CAST(:id AS bigint), 0))
    ORDER BY d.state_since, d.id LIMIT :page
"""

_LEAKS = text(
    f"""
    SELECT d.state_since, d.id, d.tenant_id, d.subscriber_ref, d.created_by_order, o.status
    FROM delegations d LEFT JOIN orders o ON o.tenant_id = d.tenant_id AND o.order_id = d.created_by_order
    WHERE {_PAGE.format(states="'allocated'")}
    """
)

_UNFINISHED = text(
    f"""
    SELECT d.state_since, d.id, d.tenant_id, d.subscriber_ref FROM delegations d
    WHERE {_PAGE.format(states="'revoking', 'revoked'")}
    """
)


async def leaks(connection: PlatformConnection, age: timedelta, after: Place | None, *, page: int) -> list[Leak]:
    """Delegations that have been allocated for longer than `age`."""
    rows = await connection.execute(_LEAKS, _given(age, after, page))
    return [Leak((row[0], row[1]), *row[2:]) for row in rows]


async def unfinished_revocations(
    connection: PlatformConnection, age: timedelta, after: Place | None, *, page: int
) -> list[Unfinished]:
    """Revocations that have come no further for longer than `age`."""
    rows = await connection.execute(_UNFINISHED, _given(age, after, page))
    return [Unfinished((row[0], row[1]), *row[2:]) for row in rows]


def _given(age: timedelta, after: Place | None, page: int) -> dict[str, Any]:
    since, id_ = after or (None, None)
    return {"age": age, "since": since, "id": id_, "page": page}
