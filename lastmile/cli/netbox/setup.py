"""`lastmile netbox check` and `setup`: whether NetBox has what Lastmile needs, and the creation of what it lacks."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import RowMapping

from ipam.netbox import NetBox
from ipam.netbox.requirements import BoundPool, Finding, set_up
from ipam.netbox.requirements import check as findings
from ipam.pools import PoolUse, list_pools
from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, mark, print_json, say, table
from lastmile.errors import InvalidInputError
from lastmile.settings import Settings
from lastmile.subscribers.tenants import list_tenants

__all__ = ["check", "open_netbox", "setup"]


async def check(as_json: bool) -> Exit:
    """Look at every requirement; FAILED while one is not met."""
    settings = load_settings()
    pools, tenants = await _bound(settings)
    async with open_netbox(settings) as netbox:
        found = await findings(netbox.wire, pools, tenants)
    if as_json:
        for finding in found:
            print_json(_json(finding))
    else:
        _show(found)
    return _exit(found)


async def setup(tenant: str | None, as_json: bool) -> Exit:
    """Create what is missing; FAILED while something is left that a person has to decide."""
    settings = load_settings()
    pools, tenants = await _bound(settings, tenant)
    async with open_netbox(settings) as netbox:
        created = await set_up(netbox.wire, await findings(netbox.wire, pools, tenants))
        left = [finding for finding in await findings(netbox.wire, pools, tenants) if finding.problem]
    if as_json:
        for finding in created:
            print_json({"created": finding.requirement})
        for finding in left:
            print_json(_json(finding))
    else:
        for finding in created:
            say(f"Created: {finding.requirement}.")
        if left:
            _show(left)
        elif not created:
            say("Nothing to do: NetBox has all that Lastmile needs.")
    return _exit(left)


@asynccontextmanager
async def open_netbox(settings: Settings) -> AsyncIterator[NetBox]:
    """The client of NetBox. Raises `InvalidInputError` where none is configured."""
    if settings.netbox is None:
        raise InvalidInputError("NetBox is not configured: set NETBOX_URL and NETBOX_TOKEN.")
    async with NetBox(**settings.netbox) as netbox:
        yield netbox


async def _bound(settings: Settings, tenant: str | None = None) -> tuple[list[BoundPool], dict[str, str]]:
    """The pools that are kept in NetBox, and the tenants they serve, `tenant` too, by id.

    None where there is no database yet. Raises `InvalidInputError` where there is no such tenant.
    """
    if settings.database_url is None and tenant is None:
        return [], {}
    async with open_database(settings) as database:
        await check_tenant(database, tenant)
        async with database.platform() as connection:
            return _places(await list_pools(connection), await list_tenants(connection), tenant)


def _places(
    uses: Sequence[PoolUse], known: Sequence[RowMapping], tenant: str | None
) -> tuple[list[BoundPool], dict[str, str]]:
    bound = [use.pool for use in uses if use.pool.netbox]
    tenants = {row["id"]: row["name"] for row in known}
    served = tenants if any(pool.tenant is None for pool in bound) else {tenant, *(pool.tenant for pool in bound)}
    pools = [
        BoundPool(name=pool.name, netbox_id=pool.netbox.prefix_id, prefix=pool.prefix, vrf_id=pool.netbox.vrf_id)
        for pool in bound
        if pool.netbox
    ]
    return pools, {id: name for id, name in tenants.items() if id in served}


def _exit(found: Sequence[Finding]) -> Exit:
    return Exit.FAILED if any(finding.problem for finding in found) else Exit.DONE


def _show(found: Sequence[Finding]) -> None:
    rows = [(one.requirement, mark("failed" if one.problem else "done"), one.problem, one.remedy) for one in found]
    console.print(table("", ("requirement", "result", "problem", "what to do"), rows))
    match sum(1 for one in found if one.problem):
        case 0:
            say("NetBox has all that Lastmile needs.")
        case 1:
            say("1 requirement is not met.")
        case lacking:
            say(f"{lacking} requirements are not met.")


def _json(finding: Finding) -> dict[str, Any]:
    return {
        "requirement": finding.requirement,
        "met": not finding.problem,
        "problem": finding.problem,
        "remedy": finding.remedy,
    }
