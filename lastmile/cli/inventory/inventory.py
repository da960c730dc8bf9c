"""`lastmile tenant` and `pool`: what a network must have before the first order."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.netbox.binding import AllocationMode, ReportingScope, pool_named, resolve_prefix
from ipam.netbox.delegated.blocks import upkeep
from ipam.netbox.delegated.outbox import backlog
from ipam.pools import Pool, PoolUse, add_pool, list_pools
from ipam.space import unusable
from lastmile.cli.connections import Temporal, check_tenant, load_settings, open_database
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit
from lastmile.cli.netbox.setup import open_netbox
from lastmile.cli.output import console, facts, print_json, say, table, tell, when
from lastmile.contract.lines import TenantId
from lastmile.db import Database
from lastmile.errors import InvalidInputError, NonRetryableError
from lastmile.fields.durations import duration
from lastmile.fields.text import PRINTABLE
from lastmile.subscribers.errors import TenantInUseError
from lastmile.subscribers.tables import subscribers
from lastmile.subscribers.tenants import add_tenant, list_tenants, remove_tenant
from lastmile.validation_messages import mistakes

__all__ = ["UnknownObjectError", "pool_add", "pool_list", "pool_show", "show_all"]
__all__ += ["tenant_add", "tenant_list", "tenant_remove", "tenant_show", "the_pool"]


class UnknownObjectError(NonRetryableError):
    """There is nothing of this name."""


class NewTenant(BaseModel):
    """What `tenant add` is given."""

    id: TenantId
    name: Annotated[str, Field(strict=True, min_length=1, max_length=200), PRINTABLE]


async def tenant_add(tenant: str, name: str, as_json: bool) -> Exit:
    """Add a tenant; the same one again changes nothing."""
    try:
        new = NewTenant(id=tenant, name=name)
    except ValidationError as failure:
        raise InvalidInputError(
            "This cannot be a tenant:", mistakes(failure, NewTenant, {"id": "ID", "name": "--name"})
        ) from None
    async with open_database(load_settings()) as database, database.platform(actor=actor()) as connection:
        added = await add_tenant(connection, new.id, new.name)
    tell(f"Tenant {tenant} {'added' if added else 'exists already, unchanged'}.", as_json, tenant=tenant, added=added)
    return Exit.DONE


async def tenant_list(as_json: bool) -> Exit:
    async with open_database(load_settings()) as database, database.platform() as connection:
        tenants = [dict(row) for row in await list_tenants(connection)]
    show_all(
        tenants,
        as_json,
        ("tenant", "name", "since"),
        [(t["id"], t["name"], when(t["created_at"])) for t in tenants],
        "There are no tenants yet. Add one: lastmile tenant add ID --name NAME",
    )
    return Exit.DONE


async def tenant_show(tenant: str, as_json: bool) -> Exit:
    """Raises `UnknownObjectError`."""
    async with open_database(load_settings()) as database:
        async with database.platform() as connection:
            found = next((dict(row) for row in await list_tenants(connection) if row["id"] == tenant), None)
            pools = [use.pool.name for use in await list_pools(connection) if use.pool.tenant in (tenant, None)]
        if found is None:
            raise UnknownObjectError(f"There is no tenant {tenant}: `lastmile tenant list` shows those there are.")
        count = await _subscribers(database, tenant)
    found |= {"subscribers": count, "pools": pools}
    if as_json:
        print_json(found)
    else:
        found |= {"created_at": when(found["created_at"]), "pools": ", ".join(pools) or "none yet: lastmile pool add"}
        console.print(facts("", found))
    return Exit.DONE


async def tenant_remove(tenant: str, as_json: bool) -> Exit:
    """Remove a tenant that nothing names. Raises `UnknownTenantError` and `TenantInUseError`."""
    settings = load_settings()
    temporal = await Temporal.connect(settings)
    async with open_database(settings) as database, database.platform(actor=actor()) as connection:
        await remove_tenant(connection, tenant)
        if waiting := [order async for order in temporal.orders.scheduled.waiting(tenant)]:
            words = f"{len(waiting):,} of its orders are scheduled: `lastmile scheduled cancel` deletes each."
            raise TenantInUseError(f"Tenant {tenant} cannot be removed, because {words}")
    tell(f"Tenant {tenant} removed.", as_json, tenant=tenant, removed=True)
    return Exit.DONE


async def _subscribers(database: Database, tenant: str) -> int:
    current = select(func.count()).select_from(subscribers).where(subscribers.c.archived_at.is_(None))
    async with database.tenant(tenant) as connection:
        return await connection.scalar(current) or 0


async def pool_add(values: dict[str, Any], netbox: dict[str, Any] | None, as_json: bool, *, force: bool) -> Exit:
    """Add a pool, in the database alone or found in NetBox; the same one again changes nothing, but finds it anew.

    With `force` also of space that is not for subscribers, where a laboratory can use it.
    """
    names = {"prefix": "PREFIX", "name": "NAME", "delegated_length": "--length"}
    names |= {field: f"--{field}" for field in ("purpose", "tenant", "vrf", "region", "country")}
    names |= {"netbox.mode": "--netbox", "netbox.on_release": "--on-release"}
    names |= {"netbox.record": "--record", "netbox.block_length": "--block-length", "excluded": "--exclude"}
    nowhere = {"prefix_id": 0, "vrf_id": None}
    try:
        pool = Pool.model_validate(values | ({"netbox": netbox | nowhere} if netbox else {}))
    except ValidationError as failure:
        raise InvalidInputError("This cannot be a pool:", mistakes(failure, Pool, names)) from None
    settings = load_settings()
    if why := unusable(pool.prefix, force=force, demonstration=settings.embedded):
        raise InvalidInputError(f"Cannot add pool {pool.name}: {why}")
    if pool.netbox is not None:
        async with open_netbox(settings) as there:
            prefix_id, vrf_id = await resolve_prefix(there, pool.prefix, pool.vrf)
        place = pool.netbox.model_copy(update={"prefix_id": prefix_id, "vrf_id": vrf_id})
        pool = pool.model_copy(update={"netbox": place})
    async with open_database(settings) as database, database.platform(actor=actor()) as connection:
        await add_pool(connection, pool)
    whom = f"tenant {pool.tenant}" if pool.tenant else "every tenant"
    count = PoolUse(pool=pool, taken=0, quarantined=0).capacity
    words = f"Pool {pool.name} is there: {count:,} prefixes of /{pool.delegated_length} from {pool.prefix}, for {whom}."
    if pool.netbox is not None:
        who = "NetBox chooses them, below"
        if pool.netbox.mode is AllocationMode.DELEGATED:
            who = f"Lastmile chooses them, in blocks of /{pool.netbox.block_length} that it takes out of NetBox, below"
        words += f" {who} its prefix {pool.netbox.prefix_id}: see `lastmile netbox check`."
    tell(words, as_json, **pool.model_dump(mode="json"), capacity=count)
    return Exit.DONE


async def pool_list(tenant: str | None, as_json: bool) -> Exit:
    """All pools, or those that serve one tenant."""
    uses = [use for use in await _pools(tenant) if tenant is None or use.pool.tenant in (tenant, None)]
    rows = [
        (
            use.pool.name,
            use.pool.tenant or "all",
            use.pool.purpose,
            use.pool.prefix,
            f"/{use.pool.delegated_length}",
            f"{use.taken:,}",
            f"{use.quarantined:,}",
            f"{use.free:,}",
            _percent(use),
            _state(use),
        )
        for use in uses
    ]
    columns = ("pool", "tenant", "purpose", "prefix", "gives", "held", "quarantine", "free", "used", "state")
    empty = "There are no pools yet. Add one: lastmile pool add NAME PREFIX --purpose ipv6_pd --length 56 --tenant ID"
    spare = ("held", "quarantine", "purpose", "tenant")
    show_all([_pool_json(use) for use in uses], as_json, columns, rows, empty, spare)
    return Exit.DONE


async def pool_show(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Raises `UnknownObjectError`."""
    async with open_database(load_settings()) as database:
        await check_tenant(database, tenant)
        async with database.platform() as connection:
            use = the_pool(await list_pools(connection), name, tenant)
            kept = await _kept(connection, use.pool)
    if as_json:
        print_json(_pool_json(use) | kept)
        return Exit.DONE
    shown = _pool_json(use) | {"tenant": use.pool.tenant or "all", "full": _percent(use)}
    shown |= {field: f"{getattr(use, field):,}" for field in ("capacity", "taken", "quarantined", "free")}
    if place := use.pool.netbox:
        record = f", record: {place.record}" if place.record else ""
        shown["netbox"] = f"prefix {place.prefix_id}, {place.mode}{record}; on release: {place.on_release}"
    shown["netbox_full_since"] = when(use.netbox_full_since)
    shown["closed_at"] = when(use.closed_at)
    shown["excluded"] = ", ".join(map(str, use.pool.excluded))
    if kept:
        kept |= {"lag": duration(kept.pop("lag_seconds"))} if "lag_seconds" in kept else {}
        shown |= kept | {"looked_after": when(kept["looked_after"]) or "not yet: see `lastmile netbox check`"}
    del shown["percent"]
    console.print(facts("", shown))
    return Exit.DONE


async def _kept(connection: AsyncConnection, pool: Pool) -> dict[str, Any]:
    """Of a delegated pool: its blocks, when a keeper last looked after them, and how far NetBox is behind."""
    if pool.netbox is None or pool.netbox.mode is not AllocationMode.DELEGATED:
        return {}
    bound = await pool_named(connection, pool.name, pool.tenant)
    kept = await upkeep(connection, bound)
    found: dict[str, Any] = {"blocks": kept.blocks, "looked_after": kept.kept_at if kept.blocks else None}
    if pool.netbox.record is ReportingScope.PREFIX:
        behind = await backlog(connection, bound)
        found |= {"untold": behind.waiting, "refused": behind.refused, "lag_seconds": behind.lag.total_seconds()}
    return found


def the_pool(uses: Sequence[PoolUse], name: str, tenant: str | None) -> PoolUse:
    """The pool of this name. Raises `UnknownObjectError`, and `InvalidInputError` where there are several."""
    found = [use for use in uses if use.pool.name == name and tenant in (None, use.pool.tenant)]
    if not found:
        raise UnknownObjectError(f"There is no pool {name}: `lastmile pool list` shows those there are.")
    if len(found) > 1:
        owners = ", ".join(use.pool.tenant or "all" for use in found)
        raise InvalidInputError(f"There are several pools {name}: say which one with --tenant ({owners}).")
    return found[0]


async def _pools(tenant: str | None) -> list[PoolUse]:
    async with open_database(load_settings()) as database:
        await check_tenant(database, tenant)
        async with database.platform() as connection:
            return await list_pools(connection)


def _pool_json(use: PoolUse) -> dict[str, Any]:
    figures = {"capacity": use.capacity, "taken": use.taken, "quarantined": use.quarantined, "free": use.free}
    said = {"percent": round(_full(use), 3), "netbox_full_since": use.netbox_full_since, "closed_at": use.closed_at}
    return use.pool.model_dump(mode="json") | figures | said


def _state(use: PoolUse) -> str:
    """What is not as usual: where the prefixes come from, and why there are none."""
    parts = ["in NetBox"] if use.pool.netbox else []
    parts += ["full"] if use.netbox_full_since else []
    return ", ".join([*parts, *(["closed"] if use.closed_at else [])])


def _full(use: PoolUse) -> float:
    """In percent; a prefix in quarantine is not free."""
    return 100 * (1 - use.free / use.capacity)


def _percent(use: PoolUse) -> str:
    return "<0.1 %" if 0 < _full(use) < 0.1 else f"{_full(use):.1f} %"


def show_all(
    values: list[dict[str, Any]],
    as_json: bool,
    columns: tuple[str, ...],
    rows: list[Any],
    empty: str,
    spare: tuple[str, ...] = (),
) -> None:
    """Print one JSON object a line, or a table without the `spare` columns where it is narrow, or the words `empty`."""
    if as_json:
        for value in values:
            print_json(value)
    elif rows:
        console.print(table("", columns, rows, spare=spare))
    else:
        say(empty)
