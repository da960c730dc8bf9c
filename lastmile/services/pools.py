"""Pools: add, list, show, close, open, drain, extend and remove them, and change their exclusions."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from ipam import pool_changes, pools
from ipam.allocation import Quarantine
from ipam.errors import UnknownPoolError
from ipam.modes import DelegatedMode, NetBoxMode
from ipam.netbox import NetBox
from ipam.netbox.binding import pool_named, resolve_prefix
from ipam.netbox.delegated.blocks import maintenance_status
from ipam.netbox.delegated.outbox import Backlog, backlog
from ipam.pool_changes import Left
from ipam.pools import Pool, PoolUse
from ipam.space import special_space, unusable
from lastmile.db import Database
from lastmile.errors import InvalidInputError

__all__ = ["BlockUse", "DrainedPool", "add_pool", "change_exclusions", "close_pool", "drain_pool", "extend_pool"]
__all__ += ["find_pool", "list_pools", "open_pool", "remove_pool", "show_blocks"]

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class BlockUse:
    """The blocks of a delegated pool, and how far its records in NetBox are behind."""

    blocks: int
    maintained_at: datetime | None
    """When a worker last maintained the blocks; None: not yet."""
    backlog: Backlog | None
    """None: NetBox gets the blocks only."""


@dataclass(frozen=True, slots=True)
class DrainedPool:
    """A closed pool, and what is left in it."""

    pool: Pool
    left: Left
    holders: list[dict[str, Any]]
    """The delegations that are not released."""


async def list_pools(database: Database, tenant: str | None = None) -> list[PoolUse]:
    """Return all pools with their utilization, or the pools that serve the tenant."""
    async with database.platform() as connection:
        return [
            use for use in await pools.list_pools(connection) if tenant is None or use.pool.tenant in (tenant, None)
        ]


async def find_pool(database: Database, name: str, tenant: str | None = None) -> PoolUse:
    """Return the pool of this name. Raises `UnknownPoolError`, and `InvalidInputError` if several have the name."""
    found = [use for use in await list_pools(database) if use.pool.name == name and tenant in (None, use.pool.tenant)]
    if not found:
        raise UnknownPoolError(f"There is no pool {name}: `lastmile pool list` lists all pools.")
    if len(found) > 1:
        owners = ", ".join(use.pool.tenant or "all" for use in found)
        raise InvalidInputError(f"There are several pools {name}: name one with --tenant ({owners}).")
    return found[0]


async def show_blocks(database: Database, pool: Pool) -> BlockUse | None:
    """Return the blocks of a delegated pool; None for any other pool."""
    if not isinstance(pool.netbox, DelegatedMode):
        return None
    async with database.platform() as connection:
        return await _blocks(connection, pool, reported=pool.netbox.reports_prefixes)


async def _blocks(connection: AsyncConnection, pool: Pool, *, reported: bool) -> BlockUse:
    bound = await pool_named(connection, pool.name, pool.tenant)
    found = await maintenance_status(connection, bound)
    behind = await backlog(connection, bound) if reported else None
    return BlockUse(found.blocks, found.maintained_at if found.blocks else None, behind)


async def add_pool(
    database: Database, netbox: NetBox | None, pool: Pool, *, actor: str, force: bool, demonstration: bool
) -> Pool:
    """Add a pool, and return it with the ids of its prefix in NetBox. The same pool again changes nothing else.

    `force` accepts special-purpose space in a laboratory; `demonstration`: the database is the embedded stack's.
    Raises `InvalidInputError` for space that subscribers cannot use, and `InvalidPoolError`.
    """
    if why := unusable(pool.prefix, force=force, demonstration=demonstration):
        raise InvalidInputError(f"Cannot add pool {pool.name}: {why}")
    if isinstance(pool.netbox, NetBoxMode) and netbox is not None:
        found = pool.netbox.at(*await resolve_prefix(netbox, pool.prefix, pool.vrf))
        pool = pool.model_copy(update={"netbox": found})
    async with database.platform(actor=actor) as connection:
        await pools.add_pool(connection, pool)
    return pool


async def change_exclusions(
    database: Database,
    pool: Pool,
    *,
    exclude: Iterable[Network],
    include: Iterable[Network],
    quarantine: timedelta,
    actor: str,
) -> Pool:
    """Exclude parts of the pool, and include others again after `quarantine`. Raises `InvalidPoolError`."""
    excluded, included = list(exclude), list(include)
    async with database.platform(actor=actor) as connection:
        if excluded:
            pool = await pool_changes.exclude(connection, pool, excluded)
        if included:
            pool = await pool_changes.include(connection, pool, included, quarantine=quarantine)
    return pool


async def close_pool(database: Database, pool: Pool, *, actor: str) -> bool:
    """Assign no new prefix from the pool. Return False if it was closed before."""
    async with database.platform(actor=actor) as connection:
        return await pool_changes.close_pool(connection, pool)


async def open_pool(database: Database, pool: Pool, *, actor: str) -> bool:
    """Assign prefixes from the pool again. Return False if it was open before."""
    async with database.platform(actor=actor) as connection:
        return await pool_changes.open_pool(connection, pool)


async def drain_pool(database: Database, pool: Pool, quarantine: Quarantine, *, actor: str) -> DrainedPool:
    """Close the pool, and return what is left in it."""
    async with database.platform(actor=actor) as connection:
        await pool_changes.close_pool(connection, pool)
        left, holders = await pool_changes.left_in(connection, pool, quarantine)
    return DrainedPool(pool, left, holders)


async def extend_pool(
    database: Database, netbox: NetBox | None, use: PoolUse, prefix: Network, *, actor: str, demonstration: bool
) -> PoolUse:
    """Extend the pool to the larger prefix, and return it. Raises `InvalidPoolError`.

    A pool that is in special-purpose space already may grow there.
    """
    pool = use.pool
    if why := unusable(prefix, force=bool(special_space(pool.prefix)), demonstration=demonstration):
        raise InvalidInputError(f"Cannot extend pool {pool.name}: {why}")
    place = None
    if isinstance(pool.netbox, NetBoxMode) and netbox is not None:
        place = await resolve_prefix(netbox, prefix, pool.vrf)
    async with database.platform(actor=actor) as connection:
        return use.model_copy(update={"pool": await pool_changes.extend_pool(connection, pool, prefix, place)})


async def remove_pool(database: Database, pool: Pool, quarantine: Quarantine, *, actor: str) -> None:
    """Remove an empty pool. Raises `PoolBusyError`."""
    async with database.platform(actor=actor) as connection:
        await pool_changes.remove_pool(connection, pool, quarantine)
