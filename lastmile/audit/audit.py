"""Run the invariants, and repair what is safe to repair."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import TextClause, text

from lastmile.audit.invariants import INVARIANTS, Invariant
from lastmile.db import Database
from lastmile.radius.vrf import VrfAttribute

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

    @property
    def finding(self) -> str:
        """What identifies this finding and no other (SHA-256): also the words count, which say how bad it is."""
        what = [self.invariant.name, self.tenant, self.subject, self.key, self.words]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


async def check(
    database: Database,
    tenant: str | None = None,
    invariants: Iterable[Invariant] = INVARIANTS,
    *,
    unconfirmed: timedelta = timedelta(days=7),
    vrf_attribute: VrfAttribute | None = None,
) -> AsyncIterator[Violation]:
    """Yield every violation, invariant by invariant, each read in a transaction of its own.

    `unconfirmed` is the quarantine of a prefix whose session may live on.

    Orders that are running change things meanwhile, each in one transaction: what a query sees is consistent.
    `vrf_attribute` is what names VRFs in RADIUS.
    """
    given = {"tenant": tenant, "unconfirmed": unconfirmed} | _vrf_values(vrf_attribute)
    for invariant in invariants:
        async with database.at_leisure() as connection:
            await connection.execute(_OVER_EVERYTHING)
            rows = await connection.stream(*_filled_in(invariant.query, given))
            async for row in rows.mappings():
                yield Violation(invariant, row["tenant"], row["subject"], row["words"], row["key"])


async def repair(
    database: Database,
    violations: Iterable[Violation],
    quarantine: timedelta,
    *,
    actor: str = "",
    vrf_attribute: VrfAttribute | None = None,
) -> AsyncIterator[Violation]:
    """Repair, as `actor`'s doing, what can be repaired without asking anybody; yields what was.

    Each repair checks again, in its own statement, that it is still needed. A slot that nobody holds rests for
    `quarantine`.
    """
    for violation in violations:
        if violation.invariant.repair is None:
            continue
        given = {"key": violation.key, "quarantine": quarantine} | _vrf_values(vrf_attribute)
        async with database.platform(actor=actor) as connection:
            result = await connection.execute(*_filled_in(violation.invariant.repair, given))
            repaired = result.rowcount > 0
        if repaired:
            yield violation


def _vrf_values(attribute: VrfAttribute | None) -> dict[str, str | None]:
    if attribute is None:
        return {"vrf_attribute": None, "vrf_template": None, "vrf_pattern": None}
    return {"vrf_attribute": attribute.name, "vrf_template": attribute.template, "vrf_pattern": attribute.pattern}


def _filled_in(query: str, given: Mapping[str, Any]) -> tuple[TextClause, dict[str, Any]]:
    """Return the statement and those of the values that it asks for."""
    statement = text(query)
    return statement, {name: given[name] for name in statement.compile().params}
