"""Run the invariants, and mend what is safe to mend."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from audit.invariants import INVARIANTS, Invariant
from db import Database

__all__ = ["Violation", "check", "mend"]


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
        async with database.platform() as connection:
            # Ten million rows take longer than a step of a workflow may.
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            rows = await connection.stream(text(invariant.query), {"tenant": tenant})
            async for row in rows:
                yield Violation(invariant, row.tenant, row.subject, row.words, row.key)


async def mend(database: Database, violations: Iterable[Violation], quarantine: timedelta) -> AsyncIterator[Violation]:
    """Repair what can be repaired without asking anybody; yields what was.

    Each repair checks again, in its own statement, that it is still needed.
    """
    for violation in violations:
        if violation.invariant.mend is None:
            continue
        statement = text(violation.invariant.mend)
        given = {"key": violation.key, "quarantine": quarantine}
        async with database.platform() as connection:
            result = await connection.execute(statement, {name: given[name] for name in statement.compile().params})
            repaired = result.rowcount > 0
        if repaired:
            yield violation
