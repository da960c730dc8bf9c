"""What the audit found, kept for the metrics: a sum for each invariant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from lastmile.db import PlatformConnection

__all__ = ["Last", "forget_others", "last", "record"]


@dataclass(frozen=True, slots=True)
class Last:
    """What the last audit of all tenants left."""

    at: datetime | None
    """When it began; None: no audit has ended yet."""
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
_LAST = text(
    """
    SELECT min(checked_at) AS at, coalesce(sum(violations), 0)::bigint AS violations,
           coalesce(sum(acknowledged), 0)::bigint AS acknowledged
    FROM audit_findings
    """
)
_FORGET_OTHERS = text("DELETE FROM audit_findings WHERE invariant <> ALL(:names)")


async def record(
    connection: PlatformConnection, invariant: str, *, violations: int, acknowledged: int, repaired: int
) -> None:
    """Keep the counts of one check. `violations` neither repaired nor acknowledged are left."""
    given = {"invariant": invariant, "violations": violations, "acknowledged": acknowledged, "repaired": repaired}
    await connection.execute(_RECORD, given)


async def forget_others(connection: PlatformConnection, names: Sequence[str]) -> None:
    """Delete the counts of every other invariant: this version does not check it, and its age would grow for ever."""
    await connection.execute(_FORGET_OTHERS, {"names": list(names)})


async def last(connection: PlatformConnection) -> Last:
    """The sum over all invariants."""
    return Last(**(await connection.execute(_LAST)).one()._mapping)
