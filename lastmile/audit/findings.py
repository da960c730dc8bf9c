"""The counts of the last audit for the metrics, one row for each invariant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from lastmile.db import PlatformConnection

__all__ = ["AuditTotals", "delete_other_findings", "read_audit_totals", "record_findings"]


@dataclass(frozen=True, slots=True)
class AuditTotals:
    """The totals of the last audit of all tenants."""

    at: datetime | None
    """When the audit began; None: no audit has ended yet."""
    violations: int
    acknowledged: int


_RECORD = text(
    """
    INSERT INTO audit_findings (invariant, violations, acknowledged, repaired)
    VALUES (:invariant, :violations, :acknowledged, :repaired)
    ON CONFLICT (invariant) DO UPDATE
    SET violations = excluded.violations, acknowledged = excluded.acknowledged, repaired = excluded.repaired,
        checked_at = now()
    """
)
_TOTALS = text(
    """
    SELECT min(checked_at) AS at, coalesce(sum(violations), 0)::bigint AS violations,
           coalesce(sum(acknowledged), 0)::bigint AS acknowledged
    FROM audit_findings
    """
)
_DELETE_OTHERS = text("DELETE FROM audit_findings WHERE invariant <> ALL(:names)")


async def record_findings(
    connection: PlatformConnection, invariant: str, *, violations: int, acknowledged: int, repaired: int
) -> None:
    """Store the counts of one check. `violations` counts those that are neither repaired nor acknowledged."""
    given = {"invariant": invariant, "violations": violations, "acknowledged": acknowledged, "repaired": repaired}
    await connection.execute(_RECORD, given)


async def delete_other_findings(connection: PlatformConnection, names: Sequence[str]) -> None:
    """Delete the counts of every invariant that is not in `names`.

    This version does not check those invariants: their age would grow for ever and raise an alert.
    """
    await connection.execute(_DELETE_OTHERS, {"names": list(names)})


async def read_audit_totals(connection: PlatformConnection) -> AuditTotals:
    """Return the sums over all invariants."""
    return AuditTotals(**(await connection.execute(_TOTALS)).one()._mapping)
