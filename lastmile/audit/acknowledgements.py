"""Findings of the audit that an operator has acknowledged: who, why and when.

An acknowledgement is about one finding in the words that the operator read. A finding with other words, such as a
second overlap of the same prefix, is a new finding. The hourly audit deletes the acknowledgement of a finding that is
gone, so that the same fault, should it come back, is reported again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, text

from lastmile.audit.audit import Violation
from lastmile.audit.tables import acknowledgements
from lastmile.db import PlatformConnection

__all__ = ["Acknowledgement", "acknowledge", "acknowledged", "withdraw"]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An operator's word that a finding is known and needs no alert."""

    by: str
    why: str
    at: datetime


# The history of a subscriber shows the entry: an order, a prefix and a subscriber's reference lead to the subscriber.
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


async def acknowledged(connection: PlatformConnection, invariant: str | None = None) -> dict[str, Acknowledgement]:
    """The acknowledgements of one invariant's findings, or of all, by `Violation.finding`."""
    table = acknowledgements.c
    query = select(table.finding, table.acknowledged_by, table.why, table.at)
    if invariant is not None:
        query = query.where(table.invariant == invariant)
    return {
        row.finding: Acknowledgement(row.acknowledged_by, row.why, row.at) for row in await connection.execute(query)
    }


async def acknowledge(connection: PlatformConnection, violation: Violation, *, by: str, why: str) -> bool:
    """Acknowledge the finding; False where somebody has acknowledged the same finding before."""
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


async def withdraw(connection: PlatformConnection, findings: Iterable[str]) -> int:
    """Delete the acknowledgements of these findings; how many there were."""
    table = acknowledgements
    return (await connection.execute(delete(table).where(table.c.finding.in_(list(findings))))).rowcount
