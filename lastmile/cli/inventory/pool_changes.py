"""`lastmile pool close`, `open`, `drain`, `extend`, `remove`, and the exclusions of `pool set`."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from pydantic import ValidationError

from ipam.allocation import Quarantine
from ipam.modes import DatabaseMode, NetBoxMode
from ipam.pool_changes import in_words
from ipam.pools import Pool, PoolUse
from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.netbox.connection import open_netbox
from lastmile.cli.output import console, make_table, outcome_text, print_json, print_result, print_text
from lastmile.db import Database
from lastmile.errors import InvalidInputError
from lastmile.fields.phrases import format_time
from lastmile.services import pools
from lastmile.services.pools import DrainedPool, find_pool
from lastmile.settings import Settings
from lastmile.validation_messages import mistakes

__all__ = ["named_pool", "pool_close", "pool_drain", "pool_exclude", "pool_extend", "pool_open", "pool_remove"]

_SHOWN = 20


async def named_pool(database: Database, name: str, tenant: str | None) -> PoolUse:
    """Return the pool. Raises `UnknownPoolError`, and `InvalidInputError` for an unknown tenant or several pools."""
    await check_tenant(database, tenant)
    return await find_pool(database, name, tenant)


async def pool_exclude(
    name: str, tenant: str | None, excluded: Sequence[str], included: Sequence[str], as_json: bool
) -> Exit:
    """Exclude parts of a pool, and include others again."""
    settings = load_settings()
    async with open_database(settings) as database:
        pool = (await named_pool(database, name, tenant)).pool
        pool = await pools.change_exclusions(
            database,
            pool,
            exclude=_parse_parts(pool, "--exclude", excluded),
            include=_parse_parts(pool, "--include", included),
            quarantine=settings.quarantine_unconfirmed,
            actor=current_user(),
        )
    parts = ", ".join(map(str, pool.excluded)) or "nothing"
    words = f"Pool {name} excludes {parts}. Subscribers keep the prefixes that they hold there."
    print_result(words, as_json, **pool.model_dump(mode="json"))
    return Exit.DONE


def _parse_parts(pool: Pool, option: str, given: Sequence[str]) -> Sequence[Any]:
    """Parse parts of the pool, as the pool's own exclusions are parsed. Raises `InvalidInputError`."""
    try:
        return Pool.model_validate(dict(pool) | {"excluded": list(given)}).excluded
    except ValidationError as failure:
        raise InvalidInputError(
            f"Pool {pool.name} cannot be changed:", mistakes(failure, Pool, {"excluded": option})
        ) from None


async def pool_close(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Close a pool: it assigns no new prefix."""
    async with open_database(load_settings()) as database:
        pool = (await named_pool(database, name, tenant)).pool
        changed = await pools.close_pool(database, pool, actor=current_user())
    state = "closed" if changed else "closed already"
    words = (
        f"Pool {name} is {state}: it assigns no new prefix. Subscribers keep theirs. To reverse: `lastmile pool open`."
    )
    print_result(words, as_json, pool=name, tenant=pool.tenant, closed=True, changed=changed)
    return Exit.DONE


async def pool_open(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Open a closed pool: it assigns prefixes again."""
    async with open_database(load_settings()) as database:
        pool = (await named_pool(database, name, tenant)).pool
        changed = await pools.open_pool(database, pool, actor=current_user())
    words = f"Pool {name} is {'open' if changed else 'open already'}: orders get prefixes from it."
    print_result(words, as_json, pool=name, tenant=pool.tenant, closed=False, changed=changed)
    return Exit.DONE


async def pool_drain(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Close the pool, and show what is left in it; FAILED until the pool is empty."""
    settings = load_settings()
    async with open_database(settings) as database:
        pool = (await named_pool(database, name, tenant)).pool
        drained = await pools.drain_pool(database, pool, _quarantine(settings), actor=current_user())
    if as_json:
        print_json(_drained_json(drained))
    elif drained.left.nothing:
        print_text(f"Pool {name} is closed and empty: `lastmile pool remove {name}` removes it.")
    else:
        print_text(f"Pool {name} is closed. It is not empty yet: {in_words(drained.left)}.")
        _show_holders(drained.holders)
    return Exit.DONE if drained.left.nothing else Exit.FAILED


def _drained_json(drained: DrainedPool) -> dict[str, Any]:
    left = drained.left
    return {
        "pool": drained.pool.name,
        "tenant": drained.pool.tenant,
        "closed": True,
        "held": left.held,
        "failed": left.failed,
        "quarantined": left.quarantined,
        "blocks": left.blocks,
        "quarantined_until": left.quarantined_until,
        "empty": left.nothing,
        "holders": drained.holders,
    }


def _show_holders(holders: list[dict[str, Any]]) -> None:
    if not holders:
        return
    rows = [
        (one["subscriber_ref"], one["tenant"], one["prefix"], outcome_text(one["state"]), format_time(one["since"]))
        for one in holders[:_SHOWN]
    ]
    title = f"The first {_SHOWN} of {len(holders):,} prefixes in use" if len(holders) > _SHOWN else "Prefixes in use"
    console.print(make_table(title, ("subscriber", "tenant", "prefix", "state", "since"), rows))
    print_text("`lastmile deprovision SUBSCRIBER` releases a prefix. A new order then gets one from another pool.")


async def pool_extend(name: str, prefix: str, tenant: str | None, as_json: bool) -> Exit:
    """Extend the pool to a larger prefix. Raises `InvalidPoolError`."""
    settings = load_settings()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        use = await named_pool(database, name, tenant)
        try:
            larger = Pool.model_validate(
                dict(use.pool) | {"prefix": prefix, "netbox": DatabaseMode(), "excluded": ()}
            ).prefix
        except ValidationError as failure:
            names = {"prefix": "PREFIX"}
            raise InvalidInputError(f"Pool {name} cannot be extended:", mistakes(failure, Pool, names)) from None
        netbox = (
            await stack.enter_async_context(open_netbox(settings)) if isinstance(use.pool.netbox, NetBoxMode) else None
        )
        extended = await pools.extend_pool(
            database, netbox, use, larger, actor=current_user(), demonstration=settings.embedded
        )
    pool, capacity = extended.pool, extended.capacity
    words = f"Pool {name} is {pool.prefix} now, with {capacity:,} prefixes of /{pool.delegated_length}."
    print_result(words, as_json, **pool.model_dump(mode="json"), capacity=capacity)
    return Exit.DONE


async def pool_remove(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Remove an empty pool. Raises `PoolBusyError`."""
    settings = load_settings()
    async with open_database(settings) as database:
        pool = (await named_pool(database, name, tenant)).pool
        await pools.remove_pool(database, pool, _quarantine(settings), actor=current_user())
    print_result(f"Pool {name} removed.", as_json, pool=name, tenant=pool.tenant, removed=True)
    return Exit.DONE


def _quarantine(settings: Settings) -> Quarantine:
    return Quarantine(settings.quarantine, settings.quarantine_unconfirmed)
