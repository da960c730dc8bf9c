"""`lastmile pool close`, `open`, `drain`, `extend`, `remove`, and the exclusions of `pool set`."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from ipam.allocation import Quarantine
from ipam.netbox.binding import resolve_prefix
from ipam.pool_changes import (
    close_pool,
    exclude,
    extend_pool,
    in_words,
    include,
    left_in,
    open_pool,
    remove_pool,
)
from ipam.pools import Pool, PoolUse, list_pools
from ipam.space import special_space, unusable
from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit
from lastmile.cli.inventory.inventory import the_pool
from lastmile.cli.netbox.setup import open_netbox
from lastmile.cli.output import console, mark, print_json, say, table, tell, when
from lastmile.db import Database
from lastmile.errors import InvalidInputError
from lastmile.settings import Settings
from lastmile.validation_messages import mistakes

__all__ = ["named_pool", "pool_close", "pool_drain", "pool_exclude", "pool_extend", "pool_open", "pool_remove"]

_SHOWN = 20


async def named_pool(database: Database, name: str, tenant: str | None) -> PoolUse:
    """Raises `UnknownObjectError`; `InvalidInputError` for an unknown tenant, or a name of several pools."""
    await check_tenant(database, tenant)
    async with database.platform() as connection:
        return the_pool(await list_pools(connection), name, tenant)


async def pool_exclude(
    name: str, tenant: str | None, excluded: Sequence[str], included: Sequence[str], as_json: bool
) -> Exit:
    """Exclude parts of a pool, and include others again."""
    settings = load_settings()
    async with open_database(settings) as database:
        pool = (await named_pool(database, name, tenant)).pool
        # Read before anything is written.
        out, back = (
            _parts(pool, option, given) for option, given in (("--exclude", excluded), ("--include", included))
        )
        async with database.platform(actor=actor()) as connection:
            if out.excluded:
                pool = await exclude(connection, pool, out.excluded)
            if back.excluded:
                pool = await include(connection, pool, back.excluded, rest=settings.quarantine_unconfirmed)
    parts = ", ".join(map(str, pool.excluded)) or "nothing"
    words = f"Pool {name} excludes {parts}. Subscribers keep the prefixes that they hold there."
    tell(words, as_json, **pool.model_dump(mode="json"))
    return Exit.DONE


def _parts(pool: Pool, option: str, given: Sequence[str]) -> Pool:
    """The pool with these exclusions alone, which reads and checks them. Raises `InvalidInputError`."""
    try:
        return Pool.model_validate(dict(pool) | {"excluded": list(given)})
    except ValidationError as failure:
        raise InvalidInputError(
            f"Pool {pool.name} cannot be changed:", mistakes(failure, Pool, {"excluded": option})
        ) from None


async def pool_close(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Give no new prefix out of the pool."""
    async with open_database(load_settings()) as database:
        pool = (await named_pool(database, name, tenant)).pool
        async with database.platform(actor=actor()) as connection:
            changed = await close_pool(connection, pool)
    state = "closed" if changed else "closed already"
    words = (
        f"Pool {name} is {state}: it assigns no new prefix. Subscribers keep theirs. To reverse: `lastmile pool open`."
    )
    tell(words, as_json, pool=name, tenant=pool.tenant, closed=True, changed=changed)
    return Exit.DONE


async def pool_open(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Give prefixes out of the pool again."""
    async with open_database(load_settings()) as database:
        pool = (await named_pool(database, name, tenant)).pool
        async with database.platform(actor=actor()) as connection:
            changed = await open_pool(connection, pool)
    words = f"Pool {name} is {'open' if changed else 'open already'}: orders get prefixes from it."
    tell(words, as_json, pool=name, tenant=pool.tenant, closed=False, changed=changed)
    return Exit.DONE


async def pool_drain(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Close the pool and tell what is left in it; FAILED while something is."""
    settings = load_settings()
    async with open_database(settings) as database:
        pool = (await named_pool(database, name, tenant)).pool
        async with database.platform(actor=actor()) as connection:
            await close_pool(connection, pool)
            left, holders = await left_in(connection, pool, _quarantine(settings))
    if as_json:
        counts = {"held": left.held, "failed": left.failed, "quarantined": left.quarantined, "blocks": left.blocks}
        until = {"quarantined_until": left.quarantined_until, "empty": left.nothing, "holders": holders}
        print_json({"pool": name, "tenant": pool.tenant, "closed": True} | counts | until)
    elif left.nothing:
        say(f"Pool {name} is closed and empty: `lastmile pool remove {name}` removes it.")
    else:
        say(f"Pool {name} is closed. It is not empty yet: {in_words(left)}.")
        _show_holders(holders)
    return Exit.DONE if left.nothing else Exit.FAILED


def _show_holders(holders: list[dict[str, Any]]) -> None:
    if not holders:
        return
    rows = [
        (one["subscriber_ref"], one["tenant"], one["prefix"], mark(one["state"]), when(one["since"]))
        for one in holders[:_SHOWN]
    ]
    title = f"The first {_SHOWN} of {len(holders):,} prefixes in use" if len(holders) > _SHOWN else "Prefixes in use"
    console.print(table(title, ("subscriber", "tenant", "prefix", "state", "since"), rows))
    say("`lastmile deprovision SUBSCRIBER` releases a prefix. A new order then gets one from another pool.")


async def pool_extend(name: str, prefix: str, tenant: str | None, as_json: bool) -> Exit:
    """Make the pool's prefix shorter. Raises `InvalidPoolError`."""
    settings = load_settings()
    async with open_database(settings) as database:
        use = await named_pool(database, name, tenant)
        try:
            wider = Pool.model_validate(dict(use.pool) | {"prefix": prefix, "netbox": None, "excluded": ()}).prefix
        except ValidationError as failure:
            names = {"prefix": "PREFIX"}
            raise InvalidInputError(f"Pool {name} cannot be extended:", mistakes(failure, Pool, names)) from None
        # A pool that is in such space already is a laboratory's.
        if why := unusable(wider, force=bool(special_space(use.pool.prefix)), demonstration=settings.embedded):
            raise InvalidInputError(f"Cannot extend pool {name}: {why}")
        place = None
        if use.pool.netbox is not None:
            async with open_netbox(settings) as netbox:
                place = await resolve_prefix(netbox, wider, use.pool.vrf)
        async with database.platform(actor=actor()) as connection:
            pool = await extend_pool(connection, use.pool, wider, place)
        capacity = use.model_copy(update={"pool": pool}).capacity
    words = f"Pool {name} is {pool.prefix} now, with {capacity:,} prefixes of /{pool.delegated_length}."
    tell(words, as_json, **pool.model_dump(mode="json"), capacity=capacity)
    return Exit.DONE


async def pool_remove(name: str, tenant: str | None, as_json: bool) -> Exit:
    """Remove an empty pool. Raises `PoolBusyError`."""
    settings = load_settings()
    async with open_database(settings) as database:
        pool = (await named_pool(database, name, tenant)).pool
        async with database.platform(actor=actor()) as connection:
            await remove_pool(connection, pool, _quarantine(settings))
    tell(f"Pool {name} removed.", as_json, pool=name, tenant=pool.tenant, removed=True)
    return Exit.DONE


def _quarantine(settings: Settings) -> Quarantine:
    return Quarantine(settings.quarantine, settings.quarantine_unconfirmed)
