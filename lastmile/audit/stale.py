"""Delegations that have been neither in use nor released for too long, read through an index.

The searches return one page at a time, the oldest delegation first: there may be any number of them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from lastmile.db import PlatformConnection

__all__ = ["Cursor", "Leak", "UnfinishedRevocation", "find_leaks", "find_unfinished_revocations"]

Cursor = tuple[datetime, int]
"""The position of a search: the time since which the delegation has its state, and the delegation's id."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A delegation that is allocated, but not active."""

    at: Cursor
    tenant: str
    subscriber_ref: str
    order_id: str
    order_status: str | None
    """The status of the order; a running order may be parked. None: the order does not exist."""


@dataclass(frozen=True, slots=True)
class UnfinishedRevocation:
    """A delegation whose revocation began and did not end: it is `revoking`, or `revoked` and not released."""

    at: Cursor
    tenant: str
    subscriber_ref: str


# The states are literals, since PostgreSQL does not use the partial index `delegations_passing` for parameters.
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

_UNFINISHED_REVOCATIONS = text(
    f"""
    SELECT d.state_since, d.id, d.tenant_id, d.subscriber_ref FROM delegations d
    WHERE {_PAGE.format(states="'revoking', 'revoked'")}
    """
)


async def find_leaks(connection: PlatformConnection, age: timedelta, after: Cursor | None, *, page: int) -> list[Leak]:
    """Return up to `page` delegations, from `after` on, that have been allocated for longer than `age`."""
    rows = await connection.execute(_LEAKS, _parameters(age, after, page))
    return [Leak((row[0], row[1]), *row[2:]) for row in rows]


async def find_unfinished_revocations(
    connection: PlatformConnection, age: timedelta, after: Cursor | None, *, page: int
) -> list[UnfinishedRevocation]:
    """Return up to `page` delegations, from `after` on, whose revocation has made no progress for longer than `age`."""
    rows = await connection.execute(_UNFINISHED_REVOCATIONS, _parameters(age, after, page))
    return [UnfinishedRevocation((row[0], row[1]), *row[2:]) for row in rows]


def _parameters(age: timedelta, after: Cursor | None, page: int) -> dict[str, Any]:
    since, id_ = after or (None, None)
    return {"age": age, "since": since, "id": id_, "page": page}
