"""The suspensions of lines, each with its mode, its reason, its start and its end."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, or_, select, text, true, update
from sqlalchemy.dialects.postgresql import insert

from lastmile.contract.orders import Operation
from lastmile.contract.suspension import SuspensionMode
from lastmile.db import PlatformConnection, TenantConnection
from lastmile.fields.phrases import format_time
from lastmile.subscribers.errors import LineStateError
from lastmile.subscribers.tables import suspensions

__all__ = [
    "DueResumption",
    "Suspension",
    "delete_suspension",
    "end_suspension",
    "find_due",
    "read_suspension",
    "record_suspension",
    "reopen_suspension",
]


@dataclass(frozen=True, slots=True)
class Suspension:
    """One suspension of a line."""

    mode: SuspensionMode
    reason: str
    resume_at: datetime | None
    created_by_order: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DueResumption:
    """A suspension whose end has passed, and that no order has ended."""

    id: int
    tenant: str
    subscriber_ref: str
    created_by_order: str
    resume_at: datetime
    attempts: int
    """The number of resume orders of the subscriber since the suspension."""


# A resume order that was rolled back is repeated after a while.
_DUE = text(
    """
    SELECT x.id, x.tenant_id, x.subscriber_ref, x.created_by_order, x.resume_at, tried.attempts
    FROM suspensions x CROSS JOIN LATERAL (
        SELECT count(*) AS attempts, max(o.created_at) AS last FROM orders o
        WHERE o.tenant_id = x.tenant_id AND o.subscriber_ref = x.subscriber_ref AND o.operation = :operation
          AND o.created_at >= x.created_at
    ) tried
    WHERE x.ended_at IS NULL AND x.resume_at <= now()
      AND (x.resume_at, x.id) > (coalesce(CAST(:after_at AS timestamptz), '-infinity'), CAST(:after_id AS bigint))
      AND (tried.last IS NULL OR tried.last < now() - CAST(:pause AS interval))
    ORDER BY x.resume_at, x.id LIMIT :most
    """
)


async def find_due(
    connection: PlatformConnection, after: tuple[datetime, int] | None, *, pause: timedelta, most: int
) -> list[DueResumption]:
    """Return suspensions whose end has passed, the oldest first, beginning after the position `after`.

    A suspension that a resume order has tried to end less than `pause` ago is left out.
    """
    at, number = after or (None, 0)
    given = {"after_at": at, "after_id": number, "pause": pause, "most": most, "operation": Operation.RESUME}
    rows = await connection.execute(_DUE, given)
    return [DueResumption(*row) for row in rows]


async def record_suspension(
    connection: TenantConnection,
    tenant: str,
    order_id: str,
    subscriber_ref: str,
    *,
    reason: str,
    mode: SuspensionMode,
    resume_at: datetime | None,
) -> None:
    """Record that the order suspends the line. A suspension that the order has already recorded gets the new content.

    Raises:
        LineStateError: `resume_at` has passed.
    """
    content = {"mode": mode, "reason": reason, "resume_at": resume_at}
    mine = (
        update(suspensions)
        .where(*_open(subscriber_ref), suspensions.c.created_by_order == order_id)
        .values(content)
        .returning(suspensions.c.id)
    )
    if await connection.scalar(mine) is not None:
        return
    if resume_at is not None and resume_at <= datetime.now(UTC):
        raise LineStateError(
            f"until: {format_time(resume_at)} has passed. Give a later time, or none: an order then resumes the line."
        )
    row = {"tenant_id": tenant, "subscriber_ref": subscriber_ref, "created_by_order": order_id, **content}
    await connection.execute(insert(suspensions).values(row))


async def delete_suspension(connection: TenantConnection, subscriber_ref: str, order_id: str) -> bool:
    """Undo `record_suspension`. Return False if the order has recorded no suspension."""
    statement = delete(suspensions).where(
        suspensions.c.subscriber_ref == subscriber_ref, suspensions.c.created_by_order == order_id
    )
    return (await connection.execute(statement)).rowcount > 0


async def end_suspension(
    connection: TenantConnection, subscriber_ref: str, order_id: str, suspended_by: str | None = None
) -> bool:
    """End the suspension of the line. Return False if the line is not suspended.

    Raises:
        LineStateError: another order than `suspended_by`, where given, has suspended the line.
    """
    named = true() if suspended_by is None else suspensions.c.created_by_order == suspended_by
    ended = await connection.execute(
        update(suspensions).where(*_open(subscriber_ref), named).values(ended_at=func.now(), ended_by_order=order_id)
    )
    if ended.rowcount or suspended_by is None:
        return ended.rowcount > 0
    found = await read_suspension(connection, subscriber_ref, order_id)
    if found is not None and found.created_by_order != suspended_by:
        raise LineStateError(
            f"The line of subscriber {subscriber_ref} was suspended by order {found.created_by_order}, not by "
            f"{suspended_by}: it stays suspended."
        )
    return False


async def reopen_suspension(connection: TenantConnection, subscriber_ref: str, order_id: str) -> bool:
    """Undo `end_suspension`. Return False if the order has ended no suspension."""
    statement = (
        update(suspensions)
        .where(suspensions.c.subscriber_ref == subscriber_ref, suspensions.c.ended_by_order == order_id)
        .values(ended_at=None, ended_by_order=None)
    )
    return (await connection.execute(statement)).rowcount > 0


async def read_suspension(connection: TenantConnection, subscriber_ref: str, order_id: str) -> Suspension | None:
    """Return the suspension that the line is in, or that the order `order_id` has ended; None if there is none."""
    row = (await connection.execute(_read(subscriber_ref, order_id))).one_or_none()
    if row is None:
        return None
    return Suspension(SuspensionMode(row.mode), row.reason, row.resume_at, row.created_by_order, row.created_at)


def _open(subscriber_ref: str) -> tuple[Any, ...]:
    return suspensions.c.subscriber_ref == subscriber_ref, suspensions.c.ended_at.is_(None)


def _read(subscriber_ref: str, order_id: str) -> Select[Any]:
    ended_here = suspensions.c.ended_by_order == order_id
    return (
        select(suspensions)
        .where(suspensions.c.subscriber_ref == subscriber_ref, or_(suspensions.c.ended_at.is_(None), ended_here))
        .order_by(suspensions.c.id.desc())
        .limit(1)
    )
