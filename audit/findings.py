"""What the audit found, kept for the metrics: a sum for each invariant."""

from collections.abc import Sequence

from sqlalchemy import text

from db import PlatformConnection

__all__ = ["forget_others", "record"]

_RECORD = text(
    """
    INSERT INTO audit_findings (invariant, violations, mended) VALUES (:invariant, :violations, :repaired)
    ON CONFLICT (invariant) DO UPDATE
    SET violations = excluded.violations, mended = excluded.mended, checked_at = now()
    """
)
_FORGET_OTHERS = text("DELETE FROM audit_findings WHERE invariant <> ALL(:names)")


async def record(connection: PlatformConnection, invariant: str, *, violations: int, repaired: int) -> None:
    """`violations` are what was left after `repaired` of them were."""
    await connection.execute(_RECORD, {"invariant": invariant, "violations": violations, "repaired": repaired})


async def forget_others(connection: PlatformConnection, names: Sequence[str]) -> None:
    """An invariant that this version does not check any more would be of that age for ever."""
    await connection.execute(_FORGET_OTHERS, {"names": list(names)})
