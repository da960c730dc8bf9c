"""`lastmile acknowledge`: an operator's word that a finding of the audit is known."""

from ipam.netbox.reconcile.differences import DifferenceKind
from lastmile.audit import acknowledgements
from lastmile.audit.audit import Violation, check
from lastmile.audit.invariants import INVARIANTS
from lastmile.cli.connections import load_settings, open_database, pick_tenant
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit, UnavailableError
from lastmile.cli.operations.audit import found_in_netbox
from lastmile.cli.orders.decisions import decision_of
from lastmile.cli.output import print_json, say
from lastmile.contract import Decision
from lastmile.db import Database, PlatformConnection
from lastmile.errors import InvalidInputError, NonRetryableError
from lastmile.settings import Settings

__all__ = ["acknowledge"]


class UnknownFindingError(NonRetryableError):
    """The audit finds nothing of this invariant about this subject."""


async def acknowledge(
    invariant: str,
    subject: str,
    *,
    tenant: str | None,
    why: str,
    by: str | None,
    withdrawn: bool,
    as_json: bool,
) -> Exit:
    """Acknowledge every present finding of the invariant about the subject, or withdraw that.

    Raises `InvalidInputError` for an unknown invariant and for findings of several tenants, `UnknownFindingError`, and
    `UnavailableError` where NetBox must be asked and cannot be.
    """
    if not (by := by or actor()):
        raise InvalidInputError("Your login has no name: say who acknowledges with --by.")
    decision = decision_of(by=by, why=why, step=None)
    known = [*(one.name for one in INVARIANTS), *map(str, DifferenceKind)]
    if invariant not in known:
        raise InvalidInputError(f"There is no invariant {invariant!r}. Invariants: {', '.join(known)}.")
    settings = load_settings()
    async with open_database(settings) as database:
        if tenant is not None:
            tenant = await pick_tenant(database, tenant)
        found = [one for one in await _findings(settings, database, invariant, tenant) if one.subject == subject]
        if not found:
            raise UnknownFindingError(
                f"The audit has no finding {invariant} about {subject}: `lastmile audit` names the findings."
            )
        if len(tenants := sorted({one.tenant or "" for one in found})) > 1:
            raise InvalidInputError(
                f"{subject} is a finding of several tenants: say which one with --tenant ({', '.join(tenants)})."
            )
        async with database.platform(actor=actor() or decision.by) as connection:
            for one in found:
                changed = await _changed(connection, one, decision, withdrawn=withdrawn)
                _tell(one, changed, withdrawn=withdrawn, as_json=as_json)
    if not as_json:
        say("Metrics and alerts follow with the next audit: `lastmile schedule trigger audit` starts one now.")
    return Exit.DONE


async def _findings(settings: Settings, database: Database, invariant: str, tenant: str | None) -> list[Violation]:
    """All present findings of one invariant."""
    if invariant in {str(kind) for kind in DifferenceKind}:
        found, unasked = await found_in_netbox(settings, database, tenant)
        if unasked:
            raise UnavailableError(f"NetBox was not compared with the database: {unasked}")
        return [one for one in found if one.invariant.name == invariant]
    wanted = [one for one in INVARIANTS if one.name == invariant]
    found_here = check(
        database,
        tenant,
        wanted,
        unconfirmed=settings.quarantine_unconfirmed,
        vrf_attribute=settings.vrf_attribute,
    )
    return [one async for one in found_here]


async def _changed(connection: PlatformConnection, one: Violation, decision: Decision, *, withdrawn: bool) -> bool:
    """False where the finding was as wanted before."""
    if withdrawn:
        return await acknowledgements.withdraw(connection, [one.finding]) > 0
    return await acknowledgements.acknowledge(connection, one, by=decision.by, why=decision.why)


def _tell(one: Violation, changed: bool, *, withdrawn: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "invariant": one.invariant.name,
                "tenant": one.tenant,
                "subject": one.subject,
                "words": one.words,
                "acknowledged": not withdrawn,
                "changed": changed,
            }
        )
        return
    done = ("Withdrawn" if withdrawn else "Acknowledged") if changed else "Unchanged"
    say(f"{done}: {one.invariant.name}, {one.tenant or 'all tenants'}, {one.subject}: {one.words}.")
