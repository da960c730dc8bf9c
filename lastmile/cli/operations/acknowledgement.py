"""`lastmile acknowledge`."""

from lastmile.audit.audit import Violation
from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.operations.audit import make_auditor
from lastmile.cli.orders.decisions import parse_decision
from lastmile.cli.output import print_json, print_text

__all__ = ["acknowledge"]


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
    """Acknowledge the findings of the invariant about the subject, or withdraw the acknowledgement."""
    decision = parse_decision(by=by, why=why, step=None)
    settings = load_settings()
    async with open_database(settings) as database:
        await check_tenant(database, tenant)
        findings = await make_auditor(settings, database).acknowledge(
            invariant, subject, decision, tenant=tenant, withdraw=withdrawn, actor=current_user() or decision.by
        )
    for finding, changed in findings:
        _show(finding, changed, withdrawn=withdrawn, as_json=as_json)
    if not as_json:
        print_text(
            "Metrics and alerts follow with the first metrics snapshot after the next audit: `lastmile schedule trigger"
            " audit`, and once the audit has ended, `lastmile schedule trigger metrics`."
        )
    return Exit.DONE


def _show(finding: Violation, changed: bool, *, withdrawn: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "invariant": finding.invariant.name,
                "tenant": finding.tenant,
                "subject": finding.subject,
                "words": finding.words,
                "acknowledged": not withdrawn,
                "changed": changed,
            }
        )
        return
    done = ("Withdrawn" if withdrawn else "Acknowledged") if changed else "Unchanged"
    print_text(
        f"{done}: {finding.invariant.name}, {finding.tenant or 'all tenants'}, {finding.subject}: {finding.words}."
    )
