"""The activities of the hourly audit: check each invariant, repair what is safe to repair, repeat disconnects.

Each repair is safe without a decision: it is one statement that checks again whether the repair is needed, changes no
live delegation, and frees no address before its quarantine ends. The audit log records its
changes.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from activities.base import Activities, maintenance_activity
from activities.maintenance.messages import InvariantReport, MaintenanceReport
from ipam.allocation import Quarantine
from ipam.netbox import NetBox
from ipam.netbox.binding import pools_in_netbox
from ipam.netbox.errors import NoNetBoxError
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.quarantine import Unconfirmed, confirm, unconfirmed
from lastmile.audit.acknowledgements import delete_acknowledgements, read_acknowledgements
from lastmile.audit.audit import Violation, check, repair
from lastmile.audit.findings import delete_other_findings, record_findings
from lastmile.audit.invariants import INVARIANTS, Invariant
from lastmile.audit.netbox_invariants import check_netbox
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.vrf import VrfAttribute
from lastmile.services.sessions import Sessions

__all__ = ["AuditActivities"]

ACTOR = "audit"
"""The actor in the audit log."""

REPAIRED_AT_ONCE = 1_000
"""Repairs of one invariant in one run; the next run repairs the others."""
RETRIED_AT_ONCE = 2_000
SIDE_BY_SIDE = 64
"""Subscribers whose sessions are disconnected at a time."""

log = structlog.get_logger("lastmile.audit")


@dataclass(slots=True)
class _Found:
    """The findings of one invariant."""

    violations: int = 0
    """Those that no operator has acknowledged."""
    acknowledged: set[str] = field(default_factory=set)
    first: list[Violation] = field(default_factory=list)

    def add(self, violation: Violation, known: set[str]) -> None:
        if known and violation.finding in known:
            self.acknowledged.add(violation.finding)
        else:
            self.violations += 1
        if len(self.first) < REPAIRED_AT_ONCE:
            self.first.append(violation)


async def _sorted(violations: AsyncIterator[Violation], known: set[str]) -> _Found:
    """Collect the findings; those whose acknowledgement is in `known` count apart."""
    found = _Found()
    async for violation in violations:
        found.add(violation, known)
    return found


class AuditActivities(Activities):
    def __init__(
        self,
        database: Database,
        authorization: DynamicAuthorization,
        quarantine: Quarantine,
        netbox: NetBox | None = None,
        *,
        vrf_attribute: VrfAttribute | None = None,
    ) -> None:
        super().__init__(database)
        self._vrf_attribute = vrf_attribute
        self._netbox = netbox
        self._sessions = Sessions(database, authorization, quarantine.unconfirmed)
        self._quarantine = quarantine
        self._invariants = {invariant.name: invariant for invariant in INVARIANTS}

    @maintenance_activity
    async def invariants(self) -> list[str]:
        """Return the names of all invariants in the order of the checks; delete findings of other invariants."""
        async with self._database.platform(actor=ACTOR) as connection:
            compared = list(DifferenceKind) if await pools_in_netbox(connection) else []
            await delete_other_findings(connection, [*self._invariants, *compared])
        return list(self._invariants)

    @maintenance_activity
    async def check_invariant(self, name: str) -> InvariantReport:
        """Check one invariant, repair its violations where possible, and store the counts for the metrics."""
        invariant = self._invariants[name]
        known = await self._acknowledged(name)
        found = await _sorted(self._check(invariant), known)
        # A session may still use a leaked prefix: its quarantine is that of an unconfirmed disconnect.
        quarantine = self._quarantine.unconfirmed
        repairs = repair(self._database, found.first, quarantine, actor=ACTOR, vrf_attribute=self._vrf_attribute)
        repaired = len([one async for one in repairs])
        if repaired:
            found = await _sorted(self._check(invariant), known)
        await self._record_findings(name, found, known, repaired=repaired)
        if found.violations or repaired:
            log.warning(
                "audit.violated",
                invariant=name,
                meaning=invariant.meaning,
                violations=found.violations,
                acknowledged=len(found.acknowledged),
                repaired=repaired,
                remedy="`lastmile audit` names them",
            )
        return InvariantReport(violations=found.violations, repaired=repaired)

    def _check(self, invariant: Invariant) -> AsyncIterator[Violation]:
        return check(
            self._database,
            invariants=[invariant],
            unconfirmed=self._quarantine.unconfirmed,
            vrf_attribute=self._vrf_attribute,
        )

    async def _acknowledged(self, invariant: str) -> set[str]:
        async with self._database.platform() as connection:
            return set(await read_acknowledgements(connection, invariant))

    async def _record_findings(self, name: str, found: _Found, known: set[str], *, repaired: int = 0) -> None:
        """Store the counts for the metrics, and delete acknowledgements whose finding is gone."""
        async with self._database.platform(actor=ACTOR) as connection:
            await delete_acknowledgements(connection, known - found.acknowledged)
            await record_findings(
                connection,
                name,
                violations=found.violations,
                acknowledged=len(found.acknowledged),
                repaired=repaired,
            )

    @maintenance_activity
    async def compare_with_netbox(self) -> dict[str, int]:
        """Return the numbers of differences by kind. The audit repairs none: other users work in NetBox too."""
        async with self._database.platform() as connection:
            if not await pools_in_netbox(connection):
                return {}
        if self._netbox is None:
            raise NoNetBoxError("pools are kept in NetBox, and this worker has no NETBOX_URL and NETBOX_TOKEN")
        known = {str(kind): await self._acknowledged(str(kind)) for kind in DifferenceKind}
        by_kind = {name: _Found() for name in known}
        async for violation in check_netbox(self._database, self._netbox):
            by_kind[violation.invariant.name].add(violation, known[violation.invariant.name])
        for name, those in by_kind.items():
            await self._record_findings(name, those, known[name])
        found = {name: those.violations for name, those in by_kind.items() if those.violations}
        if found:
            log.warning("audit.netbox_differs", remedy="`lastmile netbox reconcile` names them", **found)
        return found

    @maintenance_activity
    async def retry_disconnects(self) -> MaintenanceReport:
        """Repeat the disconnect of sessions whose end no NAS has confirmed. A confirmation shortens the quarantine.

        The session of a subscriber that has returned is left alone.
        """
        async with self._database.platform() as connection:
            found = await unconfirmed(connection, self._quarantine, most=RETRIED_AT_ONCE)
        turns = asyncio.Semaphore(SIDE_BY_SIDE)

        async def retry(one: Unconfirmed) -> bool:
            async with turns:
                if await self._sessions.disconnect(one.tenant, one.username, until=one.until, using=[one.id]):
                    return False
                async with self._database.platform(actor=ACTOR) as connection:
                    return await confirm(connection, one, self._quarantine)

        confirmed = sum(await asyncio.gather(*map(retry, found)))
        return MaintenanceReport(counts={"disconnects_retried": len(found), "disconnects_confirmed": confirmed})

    @maintenance_activity
    async def audit_ended(self, result: dict[str, Any], failed: list[str]) -> None:
        """Log the findings; `failed` lists the checks that failed."""
        if failed:
            log.error("audit.failed", failed=failed)
        log.info("audit.ended", **{name: value for name, value in result.items() if name != "problems"})
