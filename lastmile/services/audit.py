"""The audit on request: check the invariants, repair what is safe to repair, acknowledge findings."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta

from ipam.netbox import NetBox
from ipam.netbox.binding import pools_in_netbox
from ipam.netbox.errors import NetBoxError
from ipam.netbox.reconcile.differences import DifferenceKind
from lastmile.audit import acknowledgements, findings
from lastmile.audit.acknowledgements import Acknowledgement
from lastmile.audit.audit import Violation, check, repair
from lastmile.audit.invariants import INVARIANTS, NOTICES, Invariant
from lastmile.audit.netbox_invariants import check_netbox
from lastmile.contract import Decision
from lastmile.db import Database
from lastmile.errors import InvalidInputError, NonRetryableError, UnavailableError
from lastmile.radius.vrf import VrfAttribute

__all__ = ["AuditReport", "Auditor", "UnknownFindingError", "last_audit"]


class UnknownFindingError(NonRetryableError):
    """The audit has no finding of this invariant and subject."""


@dataclass
class AuditReport:
    """The findings of one audit."""

    repaired: list[Violation] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    """The violations that are left, acknowledged violations included."""
    notices: list[Violation] = field(default_factory=list)
    """What an operator should see and what violates no invariant."""
    acknowledged: dict[str, Acknowledgement] = field(default_factory=dict)
    """By `Violation.finding`."""
    netbox_problem: str = ""
    """Why NetBox was not compared, or not completely; empty if it was."""

    @property
    def unacknowledged(self) -> list[Violation]:
        return [violation for violation in self.violations if violation.finding not in self.acknowledged]


class Auditor:
    """Audits the database, and NetBox where pools are kept there.

    `open_netbox` is None if NetBox is not configured. `unconfirmed` is the quarantine of a prefix whose session may
    still use it; a repaired leak gets the same. `vrf_attribute` names VRFs in RADIUS.
    """

    def __init__(
        self,
        database: Database,
        open_netbox: Callable[[], AbstractAsyncContextManager[NetBox]] | None,
        *,
        unconfirmed: timedelta,
        vrf_attribute: VrfAttribute | None,
    ) -> None:
        self._database = database
        self._open_netbox = open_netbox
        self._unconfirmed = unconfirmed
        self._vrf_attribute = vrf_attribute

    async def audit(self, tenant: str | None = None, *, repairing: bool = False, actor: str = "") -> AuditReport:
        """Check every invariant for one tenant or for all; with `repairing`, repair what is safe to repair first."""
        report = AuditReport(violations=await self._check(tenant, INVARIANTS))
        if repairing:
            repairs = repair(
                self._database,
                report.violations,
                self._unconfirmed,
                actor=actor,
                vrf_attribute=self._vrf_attribute,
            )
            report.repaired = [violation async for violation in repairs]
        if report.repaired:
            report.violations = await self._check(tenant, INVARIANTS)
        report.notices = await self._check(tenant, NOTICES)
        in_netbox, report.netbox_problem = await self._check_netbox(tenant)
        report.violations += in_netbox
        async with self._database.platform() as connection:
            report.acknowledged = await acknowledgements.read_acknowledgements(connection)
        return report

    async def acknowledge(
        self,
        invariant: str,
        subject: str,
        decision: Decision,
        *,
        tenant: str | None = None,
        withdraw: bool = False,
        actor: str,
    ) -> list[tuple[Violation, bool]]:
        """Acknowledge every present finding of the invariant about the subject, or withdraw the acknowledgement.

        Returns each finding, and whether its acknowledgement changed. Raises `InvalidInputError` for an unknown
        invariant and for findings of several tenants, `UnknownFindingError`, and `UnavailableError` if NetBox must be
        asked and does not answer.
        """
        known = [*(one.name for one in INVARIANTS), *map(str, DifferenceKind)]
        if invariant not in known:
            raise InvalidInputError(f"There is no invariant {invariant!r}. Invariants: {', '.join(known)}.")
        found = [one for one in await self._findings(invariant, tenant) if one.subject == subject]
        if not found:
            raise UnknownFindingError(
                f"The audit has no finding {invariant} about {subject}: `lastmile audit` names the findings."
            )
        if len(tenants := sorted({one.tenant or "" for one in found})) > 1:
            raise InvalidInputError(
                f"{subject} is a finding of several tenants: name one with --tenant ({', '.join(tenants)})."
            )
        async with self._database.platform(actor=actor) as connection:
            if withdraw:
                return [
                    (one, await acknowledgements.delete_acknowledgements(connection, [one.finding]) > 0)
                    for one in found
                ]
            by, why = decision.by, decision.why
            return [(one, await acknowledgements.acknowledge(connection, one, by=by, why=why)) for one in found]

    async def _findings(self, invariant: str, tenant: str | None) -> list[Violation]:
        """Return all present findings of one invariant."""
        if invariant not in {str(kind) for kind in DifferenceKind}:
            return await self._check(tenant, [one for one in INVARIANTS if one.name == invariant])
        found, problem = await self._check_netbox(tenant)
        if problem:
            raise UnavailableError(f"NetBox was not compared with the database: {problem}")
        return [one for one in found if one.invariant.name == invariant]

    async def _check(self, tenant: str | None, invariants: Sequence[Invariant]) -> list[Violation]:
        found = check(
            self._database,
            tenant,
            invariants,
            unconfirmed=self._unconfirmed,
            vrf_attribute=self._vrf_attribute,
        )
        return [violation async for violation in found]

    async def _check_netbox(self, tenant: str | None) -> tuple[list[Violation], str]:
        """Return the differences between NetBox and the database, and why the comparison is not complete."""
        async with self._database.platform() as connection:
            if not await pools_in_netbox(connection):
                return [], ""
        if self._open_netbox is None:
            return [], "pools are kept there, and NETBOX_URL and NETBOX_TOKEN are not set."
        found = []
        try:
            async with self._open_netbox() as netbox:
                async for violation in check_netbox(self._database, netbox, tenant):
                    found.append(violation)
        except NetBoxError as failure:
            return found, str(failure)
        return found, ""


async def last_audit(database: Database) -> findings.AuditTotals:
    """Return the number of findings that the last audit of all tenants left."""
    async with database.platform() as connection:
        return await findings.read_audit_totals(connection)
