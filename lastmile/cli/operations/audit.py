"""`lastmile audit`: whether every promise is kept, what to do where one is not, and the repair of what can be."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ipam.netbox.binding import pools_in_netbox
from ipam.netbox.errors import NetBoxError
from lastmile.audit.acknowledgements import Acknowledgement, acknowledged
from lastmile.audit.audit import Violation, check, repair
from lastmile.audit.invariants import INVARIANTS, NOTICES, Invariant
from lastmile.audit.netbox_invariants import check_netbox
from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit
from lastmile.cli.netbox.setup import open_netbox
from lastmile.cli.output import complain, console, print_json, say, table, when
from lastmile.db import Database
from lastmile.settings import Settings

__all__ = ["audit", "found_in_netbox"]


async def audit(*, tenant: str | None, repairing: bool, as_json: bool) -> Exit:
    """Check every invariant, for one tenant or for all; FAILED while a violation is left that nobody has acknowledged.

    UNAVAILABLE where there seems to be none, and NetBox could not be asked.
    """
    settings = load_settings()
    async with open_database(settings) as database:
        await check_tenant(database, tenant)
        found = await _check(settings, database, tenant, INVARIANTS)
        repaired: list[Violation] = []
        if repairing:
            # Nobody knows whether a session still uses a leaked prefix: it rests as one whose end nobody confirmed.
            rest = settings.quarantine_unconfirmed
            repairs = repair(database, found, rest, actor=actor(), vrf_attribute=settings.vrf_attribute)
            repaired = [violation async for violation in repairs]
        if repaired:
            found = await _check(settings, database, tenant, INVARIANTS)
        noted = await _check(settings, database, tenant, NOTICES)
        in_netbox, unasked = await found_in_netbox(settings, database, tenant)
        found += in_netbox
        async with database.platform() as connection:
            known = await acknowledged(connection)
    left = [violation for violation in found if violation.finding not in known]
    if as_json:
        for violation in repaired:
            print_json(_json(violation, repaired=True))
        for violation in found:
            print_json(_json(violation, repaired=False, acknowledgement=known.get(violation.finding)))
        for violation in noted:
            print_json(_json(violation, repaired=False) | {"notice": True})
    else:
        _show(repaired, left, where=" in the database" if unasked else "")
        _show_acknowledged([violation for violation in found if violation.finding in known], known)
        _show_notices(noted)
    if unasked:
        complain(f"NetBox was not compared with the database: {unasked}")
    return Exit.FAILED if left else Exit.UNAVAILABLE if unasked else Exit.DONE


async def _check(
    settings: Settings, database: Database, tenant: str | None, invariants: Sequence[Invariant]
) -> list[Violation]:
    found = check(
        database,
        tenant,
        invariants,
        unconfirmed=settings.quarantine_unconfirmed,
        vrf_attribute=settings.vrf_attribute,
    )
    return [violation async for violation in found]


async def found_in_netbox(settings: Settings, database: Database, tenant: str | None) -> tuple[list[Violation], str]:
    """The differences between NetBox and the database, and why NetBox could not be asked, or not to the end."""
    async with database.platform() as connection:
        if not await pools_in_netbox(connection):
            return [], ""
    if settings.netbox is None:
        return [], "pools are kept there, and NETBOX_URL and NETBOX_TOKEN are not set."
    found = []
    try:
        async with open_netbox(settings) as netbox:
            async for violation in check_netbox(database, netbox, tenant):
                found.append(violation)
    except NetBoxError as failure:
        return found, str(failure)
    return found, ""


def _show(repaired: list[Violation], left: list[Violation], *, where: str) -> None:
    if repaired:
        console.print(
            table(_count(repaired, "repaired"), ("invariant", "tenant", "subject", "problem"), map(_row, repaired))
        )
    if not left:
        say(f"No violation{' is left' if repaired else ''}{where}.")
        return
    console.print(
        table(
            _count(left, "left" if repaired else "found"),
            ("invariant", "tenant", "subject", "problem", "what to do"),
            [(*_row(violation), violation.invariant.remedy) for violation in left],
        )
    )


def _show_acknowledged(violations: list[Violation], known: Mapping[str, Acknowledgement]) -> None:
    """The findings that an operator has acknowledged, apart from the others: they raise no alert."""
    if not violations:
        return
    rows = []
    for violation in violations:
        word = known[violation.finding]
        rows.append((*_row(violation), word.by, when(word.at), word.why))
    columns = ("invariant", "tenant", "subject", "problem", "acknowledged by", "at", "why")
    console.print(table(_count(violations, "acknowledged"), columns, rows))


def _show_notices(noted: list[Violation]) -> None:
    """Show what an operator asks for after a warning, and what breaks no promise."""
    if noted:
        title = f"{len(noted):,} released whose session end no NAS confirmed"
        console.print(table(title, ("tenant", "prefix", "session"), [_row(notice)[1:] for notice in noted]))
        say(noted[0].invariant.remedy)


def _count(violations: list[Violation], what: str) -> str:
    return f"{len(violations):,} violation{'s' if len(violations) > 1 else ''} {what}"


def _row(violation: Violation) -> tuple[str, ...]:
    return violation.invariant.name, violation.tenant or "all", violation.subject, violation.words


def _json(violation: Violation, *, repaired: bool, acknowledgement: Acknowledgement | None = None) -> dict[str, Any]:
    return {
        "invariant": violation.invariant.name,
        "meaning": violation.invariant.meaning,
        "tenant": violation.tenant,
        "subject": violation.subject,
        "words": violation.words,
        "remedy": violation.invariant.remedy,
        "repaired": repaired,
        "acknowledged": asdict(acknowledgement) if acknowledgement else None,
    }
