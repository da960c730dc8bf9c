"""`lastmile pool add`, `list` and `show`."""

from contextlib import AsyncExitStack
from typing import Any

from pydantic import ValidationError

from ipam.modes import DatabaseMode, DelegatedMode, DirectMode, NetBoxMode, PoolMode
from ipam.pools import Pool, PoolUse
from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.inventory.netbox_options import NETBOX_OPTIONS, NOT_FOUND_YET, check_mode
from lastmile.cli.netbox.connection import open_netbox
from lastmile.cli.output import console, fact_table, print_all, print_json, print_result
from lastmile.errors import InvalidInputError
from lastmile.fields.durations import format_duration
from lastmile.fields.phrases import format_time
from lastmile.services.pools import BlockUse, add_pool, find_pool, list_pools, show_blocks
from lastmile.validation_messages import mistakes

__all__ = ["pool_add", "pool_list", "pool_show"]

_OPTIONS = {
    "prefix": "PREFIX",
    "name": "NAME",
    "delegated_length": "--length",
    **{field: f"--{field}" for field in ("purpose", "tenant", "vrf", "region", "country")},
    "excluded": "--exclude",
    **NETBOX_OPTIONS,
}


async def pool_add(values: dict[str, Any], netbox: dict[str, Any] | None, as_json: bool, *, force: bool) -> Exit:
    """Add a pool. The same command again changes nothing, but looks up the pool's prefix in NetBox again.

    `force` accepts special-purpose space in a laboratory.
    """
    if netbox:
        check_mode(netbox["mode"])
    try:
        pool = Pool.model_validate(values | ({"netbox": netbox | NOT_FOUND_YET} if netbox else {}))
    except ValidationError as failure:
        raise InvalidInputError("Invalid pool:", mistakes(failure, Pool, _OPTIONS)) from None
    settings = load_settings()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        client = await stack.enter_async_context(open_netbox(settings)) if isinstance(pool.netbox, NetBoxMode) else None
        pool = await add_pool(
            database, client, pool, actor=current_user(), force=force, demonstration=settings.embedded
        )
    capacity = PoolUse(pool=pool, taken=0, quarantined=0).capacity
    print_result(_added(pool, capacity), as_json, **pool.model_dump(mode="json"), capacity=capacity)
    return Exit.DONE


def _added(pool: Pool, capacity: int) -> str:
    serves = f"tenant {pool.tenant}" if pool.tenant else "every tenant"
    prefixes = "prefix" if capacity == 1 else "prefixes"
    words = (
        f"Pool {pool.name} is ready: {capacity:,} {prefixes} of /{pool.delegated_length} from {pool.prefix}, "
        f"for {serves}."
    )
    match pool.netbox:
        case DatabaseMode():
            return words
        case DirectMode(prefix_id=id):
            chooser = "NetBox chooses them"
        case DelegatedMode(prefix_id=id, block_length=length):
            chooser = f"Lastmile chooses them, in blocks of /{length} that it acquires from NetBox"
    return f"{words} {chooser}, below its prefix {id}: see `lastmile netbox check`."


async def pool_list(tenant: str | None, as_json: bool) -> Exit:
    """List all pools, or those that serve one tenant."""
    async with open_database(load_settings()) as database:
        await check_tenant(database, tenant)
        uses = await list_pools(database, tenant)
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
    print_all([_json(use) for use in uses], as_json, columns, rows, empty, spare)
    return Exit.DONE


async def pool_show(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Show one pool. Raises `UnknownPoolError`."""
    async with open_database(load_settings()) as database:
        await check_tenant(database, tenant)
        use = await find_pool(database, name, tenant)
        blocks = await show_blocks(database, use.pool)
    if as_json:
        print_json(_json(use) | _blocks_json(blocks))
    else:
        console.print(fact_table("", _shown(use, blocks)))
    return Exit.DONE


def _shown(use: PoolUse, blocks: BlockUse | None) -> dict[str, Any]:
    """Return the facts about a pool, as people read them."""
    shown = _json(use) | {"tenant": use.pool.tenant or "all", "full": _percent(use)}
    shown |= {field: f"{getattr(use, field):,}" for field in ("capacity", "taken", "quarantined", "free")}
    shown["netbox"] = _mode_words(use.pool.netbox)
    shown["netbox_full_since"] = format_time(use.netbox_full_since)
    shown["closed_at"] = format_time(use.closed_at)
    shown["excluded"] = ", ".join(map(str, use.pool.excluded))
    if blocks is not None:
        shown |= _blocks_json(blocks)
        shown["maintained_at"] = format_time(blocks.maintained_at) or "not yet: see `lastmile netbox check`"
        if blocks.backlog is not None:
            shown["lag"] = format_duration(shown.pop("lag_seconds"))
    del shown["percent"]
    return shown


def _mode_words(mode: PoolMode) -> str:
    """Describe what NetBox has of the pool; empty if NetBox does not know it."""
    match mode:
        case DatabaseMode():
            return ""
        case DirectMode():
            record = ""
        case DelegatedMode():
            record = f", record: {mode.record}"
    return f"prefix {mode.prefix_id}, {mode.mode}{record}; on release: {mode.on_release}"


def _json(use: PoolUse) -> dict[str, Any]:
    counts = {"capacity": use.capacity, "taken": use.taken, "quarantined": use.quarantined, "free": use.free}
    state = {
        "percent": round(_utilization(use), 3),
        "netbox_full_since": use.netbox_full_since,
        "closed_at": use.closed_at,
    }
    return use.pool.model_dump(mode="json") | counts | state


def _blocks_json(blocks: BlockUse | None) -> dict[str, Any]:
    if blocks is None:
        return {}
    found: dict[str, Any] = {"blocks": blocks.blocks, "maintained_at": blocks.maintained_at}
    if behind := blocks.backlog:
        found |= {"unreported": behind.waiting, "refused": behind.refused, "lag_seconds": behind.lag.total_seconds()}
    return found


def _state(use: PoolUse) -> str:
    """Describe what is special: the pool is in NetBox, full, or closed."""
    parts = ["in NetBox"] if isinstance(use.pool.netbox, NetBoxMode) else []
    parts += ["full"] if use.netbox_full_since else []
    return ", ".join([*parts, *(["closed"] if use.closed_at else [])])


def _utilization(use: PoolUse) -> float:
    """Return the utilization in percent; a prefix in quarantine is not free."""
    return 100 * (1 - use.free / use.capacity)


def _percent(use: PoolUse) -> str:
    return "<0.1 %" if 0 < _utilization(use) < 0.1 else f"{_utilization(use):.1f} %"
