"""Acknowledgements of audit findings: the operator, the reason and the time.

An acknowledgement covers one finding with exactly its text. A finding with another text, such as a second overlap of
the same prefix, is a new finding. The hourly audit deletes the acknowledgement of a finding that is gone, so that the
audit reports the same fault again when it returns.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, text

from lastmile.audit.audit import Violation
from lastmile.audit.tables import acknowledgements
from lastmile.db import PlatformConnection

__all__ = ["Acknowledgement", "acknowledge", "delete_acknowledgements", "read_acknowledgements"]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An operator's statement that a finding is known and needs no alert."""

    by: str
    why: str
    at: datetime


# The subscriber is looked up from the order, the prefix or the reference, so that the subscriber's history shows the
# acknowledgement.
_ACKNOWLEDGE = text(
    """
    INSERT INTO acknowledgements (finding, invariant, tenant_id, subject, key, subscriber_ref, acknowledged_by, why)
    SELECT :finding, :invariant, CAST(:tenant AS text), CAST(:subject AS text), :key, coalesce(
               (SELECT subscriber_ref FROM orders WHERE tenant_id = :tenant AND order_id = :subject),
               (SELECT min(subscriber_ref) FROM delegations
                WHERE tenant_id = :tenant AND released_at IS NULL AND prefix::text = :subject),
               (SELECT min(ref) FROM subscribers WHERE tenant_id = :tenant AND ref = :subject)),
           :by, :why
    ON CONFLICT (finding) DO NOTHING
    """
)


async def read_acknowledgements(
    connection: PlatformConnection, invariant: str | None = None
) -> dict[str, Acknowledgement]:
    """Return the acknowledgements by `Violation.finding`: of one invariant, or of all."""
    table = acknowledgements.c
    query = select(table.finding, table.acknowledged_by, table.why, table.at)
    if invariant is not None:
        query = query.where(table.invariant == invariant)
    return {
        row.finding: Acknowledgement(row.acknowledged_by, row.why, row.at) for row in await connection.execute(query)
    }


async def acknowledge(connection: PlatformConnection, violation: Violation, *, by: str, why: str) -> bool:
    """Acknowledge the finding. Return False if the same finding was acknowledged before."""
    given = {
        "finding": violation.finding,
        "invariant": violation.invariant.name,
        "tenant": violation.tenant,
        "subject": violation.subject,
        "key": violation.key,
        "by": by,
        "why": why,
    }
    return (await connection.execute(_ACKNOWLEDGE, given)).rowcount > 0


async def delete_acknowledgements(connection: PlatformConnection, findings: Iterable[str]) -> int:
    """Delete the acknowledgements of these findings. Return their number."""
    table = acknowledgements
    return (await connection.execute(delete(table).where(table.c.finding.in_(list(findings))))).rowcount
