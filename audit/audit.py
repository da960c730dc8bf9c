"""Run the invariants, and repair what is safe to repair."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from audit.invariants import INVARIANTS, Invariant
from db import Database

__all__ = ["Violation", "check", "repair"]


# The planner takes "each subscriber's last order" for a handful of rows, and would look up millions one by one. And
# whoever reads what is found may take as long: nothing is locked.
_OVER_EVERYTHING = text(
    """
    SELECT set_config('enable_nestloop', 'off', true), set_config('idle_in_transaction_session_timeout', '0', true)
    """
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is not as it must be."""

    invariant: Invariant
    tenant: str | None
    """None: in a pool that serves all tenants."""
    subject: str
    words: str
    key: str


async def check(
    database: Database, tenant: str | None = None, invariants: Iterable[Invariant] = INVARIANTS
) -> AsyncIterator[Violation]:
    """Every violation, invariant by invariant, each read in a transaction of its own.

    Orders that are running change things meanwhile, each in one transaction: what a query sees is consistent.
    """
    for invariant in invariants:
        async with database.at_leisure() as connection:
            await connection.execute(_OVER_EVERYTHING)
            rows = await connection.stream(text(invariant.query), {"tenant": tenant})
            async for row in rows.mappings():
                yield Violation(invariant, row["tenant"], row["subject"], row["words"], row["key"])


async def repair(
    database: Database, violations: Iterable[Violation], quarantine: timedelta, *, actor: str = ""
) -> AsyncIterator[Violation]:
    """Repair, as `actor`'s doing, what can be repaired without asking anybody; yields what was.

    Each repair checks again, in its own statement, that it is still needed. A slot that nobody holds rests for
    `quarantine`.
    """
    for violation in violations:
        if violation.invariant.repair is None:
            continue
        statement = text(violation.invariant.repair)
        given = {"key": violation.key, "quarantine": quarantine}
        async with database.platform(actor=actor) as connection:
            result = await connection.execute(statement, {name: given[name] for name in statement.compile().params})
            repaired = result.rowcount > 0
        if repaired:
            yield violation
