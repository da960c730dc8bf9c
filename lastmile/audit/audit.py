"""The check of the invariants, and the repair of violations that are safe to repair."""

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


# The planner estimates "each subscriber's last order" as a few rows: with nested loops a query would look up millions
# of rows one by one. The reader of the violations may pause for any time, since the transaction locks nothing.
_PREPARE_FULL_SCAN = text(
    """
    SELECT set_config('enable_nestloop', 'off', true), set_config('idle_in_transaction_session_timeout', '0', true)
    """
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One record that breaks an invariant."""

    invariant: Invariant
    tenant: str | None
    """None: the record is in a pool that serves all tenants."""
    subject: str
    words: str
    key: str

    @property
    def finding(self) -> str:
        """Return the identifier of this finding (SHA-256).

        The identifier covers the text too: a finding that got worse needs a new acknowledgement.
        """
        content = [self.invariant.name, self.tenant, self.subject, self.key, self.words]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


async def check(
    database: Database,
    tenant: str | None = None,
    invariants: Iterable[Invariant] = INVARIANTS,
    *,
    unconfirmed: timedelta = timedelta(days=7),
    vrf_attribute: VrfAttribute | None = None,
) -> AsyncIterator[Violation]:
    """Yield every violation, one invariant after the other, each in its own transaction.

    Running orders change records meanwhile, each change in one transaction: each query sees a consistent state.

    Args:
        tenant: check only the records of this tenant; None checks all tenants.
        unconfirmed: the quarantine of a prefix whose session may still be open.
        vrf_attribute: the RADIUS attribute that names VRFs; None skips the VRF invariants.
    """
    given = {"tenant": tenant, "unconfirmed": unconfirmed} | _vrf_values(vrf_attribute)
    async with database.long_transactions() as transaction:
        for invariant in invariants:
            async with transaction() as connection:
                await connection.execute(_PREPARE_FULL_SCAN)
                rows = await connection.stream(*_bind(invariant.query, given))
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
    """Repair the violations that are safe to repair, and yield each repaired violation.

    Each repair checks again, in its own statement, that the violation still exists.

    Args:
        quarantine: the quarantine of a slot that the repair frees.
        actor: the name in the audit log.
    """
    for violation in violations:
        if violation.invariant.repair is None:
            continue
        given = {"key": violation.key, "quarantine": quarantine} | _vrf_values(vrf_attribute)
        async with database.platform(actor=actor) as connection:
            result = await connection.execute(*_bind(violation.invariant.repair, given))
            repaired = result.rowcount > 0
        if repaired:
            yield violation


def _vrf_values(attribute: VrfAttribute | None) -> dict[str, str | None]:
    if attribute is None:
        return {"vrf_attribute": None, "vrf_template": None, "vrf_pattern": None}
    return {"vrf_attribute": attribute.name, "vrf_template": attribute.template, "vrf_pattern": attribute.pattern}


def _bind(query: str, given: Mapping[str, Any]) -> tuple[TextClause, dict[str, Any]]:
    """Return the statement and the values that the statement uses."""
    statement = text(query)
    return statement, {name: given[name] for name in statement.compile().params}
