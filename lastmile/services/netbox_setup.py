"""NetBox's preparation: what Lastmile needs there, and the creation of what NetBox lacks."""

from collections.abc import Sequence
from dataclasses import dataclass

from ipam.modes import NetBoxMode
from ipam.netbox import NetBox
from ipam.netbox.requirements import Finding, PoolPrefix, check, set_up
from ipam.pools import PoolUse, list_pools
from lastmile.db import Database
from lastmile.services.tenants import Tenant, list_tenants

__all__ = ["SetupTarget", "check_netbox", "find_target", "set_up_netbox"]


@dataclass(frozen=True, slots=True)
class SetupTarget:
    """The pools that are kept in NetBox, and the tenants that they serve, by id."""

    pools: Sequence[PoolPrefix] = ()
    tenants: dict[str, str] | None = None


async def find_target(database: Database, tenant: str | None = None) -> SetupTarget:
    """Return the pools in NetBox and their tenants; with `tenant`, also this tenant."""
    tenants = await list_tenants(database)
    async with database.platform() as connection:
        return _target(await list_pools(connection), tenants, tenant)


def _target(uses: Sequence[PoolUse], known: Sequence[Tenant], tenant: str | None) -> SetupTarget:
    bound = [(use.pool, use.pool.netbox) for use in uses if isinstance(use.pool.netbox, NetBoxMode)]
    tenants = {one.id: one.name for one in known}
    served = tenants if any(pool.tenant is None for pool, _ in bound) else {tenant, *(pool.tenant for pool, _ in bound)}
    pools = [
        PoolPrefix(name=pool.name, netbox_id=mode.prefix_id, prefix=pool.prefix, vrf_id=mode.vrf_id)
        for pool, mode in bound
    ]
    return SetupTarget(pools, {id: name for id, name in tenants.items() if id in served})


async def check_netbox(netbox: NetBox, target: SetupTarget) -> list[Finding]:
    """Check every requirement, and change nothing."""
    return list(await check(netbox.wire, target.pools, target.tenants or {}))


async def set_up_netbox(netbox: NetBox, target: SetupTarget) -> tuple[list[Finding], list[Finding]]:
    """Create what NetBox lacks. Return what was created, and the problems that an operator must solve."""
    created = await set_up(netbox.wire, await check_netbox(netbox, target))
    left = [finding for finding in await check_netbox(netbox, target) if finding.problem]
    return list(created), left
