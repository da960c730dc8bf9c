"""`lastmile netbox check` and `setup`."""

from collections.abc import Sequence
from typing import Any

from ipam.netbox.requirements import Finding
from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.netbox.connection import open_netbox
from lastmile.cli.output import console, make_table, outcome_text, print_json, print_text
from lastmile.services.netbox_setup import SetupTarget, check_netbox, find_target, set_up_netbox
from lastmile.settings import Settings

__all__ = ["check", "setup"]


async def check(as_json: bool) -> Exit:
    """Check every requirement; FAILED while a requirement is not met."""
    settings = load_settings()
    target = await _target(settings)
    async with open_netbox(settings) as netbox:
        found = await check_netbox(netbox, target)
    if as_json:
        for finding in found:
            print_json(_json(finding))
    else:
        _show(found)
    return _exit(found)


async def setup(tenant: str | None, as_json: bool) -> Exit:
    """Create what NetBox lacks; FAILED while a problem is left that an operator must solve."""
    settings = load_settings()
    target = await _target(settings, tenant)
    async with open_netbox(settings) as netbox:
        created, left = await set_up_netbox(netbox, target)
    if as_json:
        for finding in created:
            print_json({"created": finding.requirement})
        for finding in left:
            print_json(_json(finding))
    else:
        for finding in created:
            print_text(f"Created: {finding.requirement}.")
        if left:
            _show(left)
        elif not created:
            print_text("Nothing to do: NetBox has all that Lastmile needs.")
    return _exit(left)


async def _target(settings: Settings, tenant: str | None = None) -> SetupTarget:
    """Return the pools and tenants of the database; none before there is a database. Raises `InvalidInputError`."""
    if settings.database_url is None and tenant is None:
        return SetupTarget()
    async with open_database(settings) as database:
        await check_tenant(database, tenant)
        return await find_target(database, tenant)


def _exit(found: Sequence[Finding]) -> Exit:
    return Exit.FAILED if any(finding.problem for finding in found) else Exit.DONE


def _show(found: Sequence[Finding]) -> None:
    rows = [
        (one.requirement, outcome_text("failed" if one.problem else "done"), one.problem, one.remedy) for one in found
    ]
    console.print(make_table("", ("requirement", "result", "problem", "what to do"), rows))
    match sum(1 for one in found if one.problem):
        case 0:
            print_text("NetBox has all that Lastmile needs.")
        case 1:
            print_text("1 requirement is not met.")
        case lacking:
            print_text(f"{lacking} requirements are not met.")


def _json(finding: Finding) -> dict[str, Any]:
    return {
        "requirement": finding.requirement,
        "met": not finding.problem,
        "problem": finding.problem,
        "remedy": finding.remedy,
    }
