"""`lastmile audit`."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from lastmile.audit.acknowledgements import Acknowledgement
from lastmile.audit.audit import Violation
from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.netbox.connection import open_netbox
from lastmile.cli.output import console, make_table, print_error, print_json, print_text
from lastmile.db import Database
from lastmile.fields.phrases import format_time
from lastmile.services.audit import Auditor, AuditReport
from lastmile.settings import Settings

__all__ = ["audit", "make_auditor"]


def make_auditor(settings: Settings, database: Database) -> Auditor:
    """Make an auditor as the settings say."""
    return Auditor(
        database,
        partial(open_netbox, settings) if settings.netbox else None,
        unconfirmed=settings.quarantine_unconfirmed,
        vrf_attribute=settings.vrf_attribute,
    )


async def audit(*, tenant: str | None, repairing: bool, as_json: bool) -> Exit:
    """Check the invariants; FAILED while an unacknowledged violation is left.

    UNAVAILABLE without such a violation, if NetBox does not answer.
    """
    settings = load_settings()
    async with open_database(settings) as database:
        await check_tenant(database, tenant)
        report = await make_auditor(settings, database).audit(tenant, repairing=repairing, actor=current_user())
    if as_json:
        _print_json(report)
    else:
        _show(report.repaired, report.unacknowledged, where=" in the database" if report.netbox_problem else "")
        _show_acknowledged(report.violations, report.acknowledged)
        _show_notices(report.notices)
    if report.netbox_problem:
        print_error(f"NetBox was not compared with the database: {report.netbox_problem}")
    if report.unacknowledged:
        return Exit.FAILED
    return Exit.UNAVAILABLE if report.netbox_problem else Exit.DONE


def _print_json(report: AuditReport) -> None:
    for violation in report.repaired:
        print_json(_json(violation, repaired=True))
    for violation in report.violations:
        acknowledgement = report.acknowledged.get(violation.finding)
        print_json(_json(violation, repaired=False, acknowledgement=acknowledgement))
    for notice in report.notices:
        print_json(_json(notice, repaired=False) | {"notice": True})


def _show(repaired: list[Violation], left: list[Violation], *, where: str) -> None:
    if repaired:
        console.print(
            make_table(_count(repaired, "repaired"), ("invariant", "tenant", "subject", "problem"), map(_row, repaired))
        )
    if not left:
        print_text(f"No violation{' is left' if repaired else ''}{where}.")
        return
    console.print(
        make_table(
            _count(left, "left" if repaired else "found"),
            ("invariant", "tenant", "subject", "problem", "what to do"),
            [(*_row(violation), violation.invariant.remedy) for violation in left],
        )
    )


def _show_acknowledged(violations: list[Violation], known: Mapping[str, Acknowledgement]) -> None:
    """Show the acknowledged violations in a table of their own: they raise no alert."""
    acknowledged = [violation for violation in violations if violation.finding in known]
    if not acknowledged:
        return
    rows = []
    for violation in acknowledged:
        by = known[violation.finding]
        rows.append((*_row(violation), by.by, format_time(by.at), by.why))
    columns = ("invariant", "tenant", "subject", "problem", "acknowledged by", "at", "why")
    console.print(make_table(_count(acknowledged, "acknowledged"), columns, rows))


def _show_notices(notices: list[Violation]) -> None:
    """Show the released prefixes whose session end is not confirmed. They violate no invariant."""
    if notices:
        title = f"{len(notices):,} released whose session end no NAS confirmed"
        console.print(make_table(title, ("tenant", "prefix", "session"), [_row(notice)[1:] for notice in notices]))
        print_text(notices[0].invariant.remedy)


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
