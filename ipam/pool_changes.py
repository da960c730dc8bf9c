"""Changes of a pool that is in use, by an operator. Slot numbers, and so the prefixes of subscribers, never change.

Each change locks the pool's row: allocations that move the frontier and new delegations wait for it. Releases wait for
the lock on the pool's exclusions.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from ipam.allocation import Quarantine
from ipam.errors import InvalidPoolError, PoolBusyError
from ipam.exclusions import slot_ranges, without
from ipam.modes import NetBoxMode
from ipam.pools import Pool, list_pools
from ipam.prefix import Prefix, is_within
from lastmile.db import PlatformConnection
from lastmile.db.statements import read_sql
from lastmile.fields.phrases import count_of

__all__ = ["Left", "close_pool", "exclude", "extend_pool", "in_words", "include", "left_in", "open_pool", "remove_pool"]


MOST_INCLUDED = 2**20
"""How many slots can be included at once: each slot below the frontier gets its row."""

_LOCK = text("SELECT id FROM pools WHERE name = :name AND tenant_id IS NOT DISTINCT FROM :tenant FOR UPDATE")

_LOCK_EXCLUSIONS = text("SELECT pg_advisory_xact_lock(lastmile_exclusions_lock(:pool_id))")

_SET_EXCLUDED = text("UPDATE pools SET excluded = CAST(CAST(:excluded AS text) AS int8multirange) WHERE id = :pool_id")

# A slot in quarantine keeps its row, the only record that the prefix was in use.
_TAKE_AWAY = (
    text(
        """
        DELETE FROM slots s USING pools p WHERE p.id = :pool_id AND s.pool_id = p.id AND s.slot <@ p.excluded
            AND s.delegation_id IS NULL AND s.free_at <= now()
        """
    ),
    text(
        """
        UPDATE slots s SET free_at = 'infinity', last_holder = NULL FROM pools p
        WHERE p.id = :pool_id AND s.pool_id = p.id AND s.slot <@ p.excluded AND s.delegation_id IS NULL
        """
    ),
)

# The end of the former quarantine is not known any more, so a new one begins.
_INCLUDE_AGAIN = (
    text(
        """
        UPDATE slots SET free_at = now() + CAST(:quarantine AS interval)
        WHERE pool_id = :pool_id AND slot <@ CAST(CAST(:slots AS text) AS int8multirange)
          AND delegation_id IS NULL AND free_at = 'infinity'
        """
    ),
    text(
        """
        INSERT INTO slots (pool_id, slot, tenant_id)
        SELECT p.id, slot, p.tenant_id
        FROM pools p,
             unnest(CAST(CAST(:slots AS text) AS int8multirange)
                    * int8multirange(int8range(p.first_slot, p.frontier))) gap,
             generate_series(lower(gap), upper(gap) - 1) slot
        WHERE p.id = :pool_id ON CONFLICT DO NOTHING
        """
    ),
)

_SET_CLOSED = text(
    """
    UPDATE pools SET closed_at = CASE WHEN :closed THEN now() END
    WHERE id = :pool_id AND (closed_at IS NOT NULL) <> :closed
    """
)

_EXTEND = text(
    """
    UPDATE pools SET prefix = CAST(:prefix AS cidr), end_slot = :end_slot,
        frontier = CASE mode WHEN 'delegated' THEN :end_slot ELSE frontier END,
        netbox_prefix_id = :prefix_id, netbox_vrf_id = :vrf_id, netbox_full_since = NULL
    WHERE id = :pool_id
    """
)

_LEFT = text(read_sql("ipam", "count_pool_use"))

_HOLDERS = text(
    """
    SELECT tenant_id AS tenant, subscriber_ref, purpose, abbrev(prefix::inet) AS prefix, state, state_since AS since
    FROM delegations WHERE pool_id = :pool_id AND released_at IS NULL ORDER BY id
    """
)

# As the cleanup deletes delegations that ended long ago. Their events stay, with subscriber and prefix.
_REMOVE = (
    text("DELETE FROM delegations WHERE pool_id = :pool_id AND released_at IS NOT NULL"),
    text("DELETE FROM pools WHERE id = :pool_id"),
)


@dataclass(frozen=True, slots=True)
class Left:
    """What still holds slots of a pool, or has a record in NetBox for it."""

    held: int
    """Delegations that are not released, `failed` of them included."""
    failed: int
    quarantined: int
    """Prefixes in quarantine, and NetBox records that are to be deleted."""
    quarantined_until: datetime | None
    blocks: int
    """Blocks of a delegated pool."""

    @property
    def nothing(self) -> bool:
        return not (self.held or self.quarantined or self.blocks)


async def exclude(connection: PlatformConnection, pool: Pool, networks: Iterable[Prefix]) -> Pool:
    """Exclude these parts of the pool from allocation; return the pool. Subscribers keep the prefixes they hold there.

    Raises `InvalidPoolError`.
    """
    wanted = _changed(pool, excluded=[*pool.excluded, *networks])
    place = {"pool_id": await _lock(connection, pool)}
    await connection.execute(_LOCK_EXCLUSIONS, place)
    await connection.execute(_SET_EXCLUDED, place | {"excluded": slot_ranges(wanted.excluded_slots)})
    for statement in _TAKE_AWAY:
        await connection.execute(statement, place)
    return wanted


async def include(
    connection: PlatformConnection, pool: Pool, networks: Iterable[Prefix], *, quarantine: timedelta
) -> Pool:
    """Include these parts again; return the pool. A prefix that was in use before is in quarantine for `quarantine`.

    Raises `InvalidPoolError`.
    """
    back = _changed(pool, excluded=list(networks)).excluded_slots
    if sum(map(len, back)) > MOST_INCLUDED:
        raise InvalidPoolError(
            f"more than {MOST_INCLUDED:,} prefixes cannot be included at once: include smaller parts"
        )
    kept = [part for one in pool.excluded_slots for part in without(one, back)]
    excluded = [network for part in kept for network in pool.networks_of(part)]
    wanted = pool.model_copy(update={"excluded": tuple(excluded)})
    pool_id = await _lock(connection, pool)
    await connection.execute(_LOCK_EXCLUSIONS, {"pool_id": pool_id})
    await connection.execute(_SET_EXCLUDED, {"pool_id": pool_id, "excluded": slot_ranges(kept)})
    await connection.execute(
        _INCLUDE_AGAIN[0], {"pool_id": pool_id, "slots": slot_ranges(back), "quarantine": quarantine}
    )
    await connection.execute(_INCLUDE_AGAIN[1], {"pool_id": pool_id, "slots": slot_ranges(back)})
    return wanted


async def close_pool(connection: PlatformConnection, pool: Pool) -> bool:
    """Close the pool to new allocations; return whether it was open."""
    given = {"pool_id": await _lock(connection, pool), "closed": True}
    return (await connection.execute(_SET_CLOSED, given)).rowcount > 0


async def open_pool(connection: PlatformConnection, pool: Pool) -> bool:
    """Open the pool to new allocations; return whether it was closed."""
    given = {"pool_id": await _lock(connection, pool), "closed": False}
    return (await connection.execute(_SET_CLOSED, given)).rowcount > 0


async def left_in(
    connection: PlatformConnection, pool: Pool, quarantine: Quarantine
) -> tuple[Left, list[dict[str, Any]]]:
    """Count what is left in the pool, and list the delegations that hold its slots."""
    place = {"pool_id": await _lock(connection, pool)}
    counts = (await connection.execute(_LEFT, place | asdict(quarantine))).mappings().one()
    holders = (await connection.execute(_HOLDERS, place)).mappings()
    return Left(**counts), [dict(row) for row in holders]


async def extend_pool(
    connection: PlatformConnection, pool: Pool, prefix: Prefix, place: tuple[int, int | None] | None
) -> Pool:
    """Extend the pool to this prefix, which contains the present one; return the pool.

    `place` is NetBox's id of the prefix, and of its VRF. Raises `InvalidPoolError` where the prefix does not begin at
    the pool's first address, which would change slot numbers, and where it overlaps another pool.
    """
    if not is_within(pool.prefix, prefix) or prefix == pool.prefix:
        raise InvalidPoolError(
            f"{prefix} does not contain {pool.prefix} of pool {pool.name}, or is the same: name a prefix "
                          "with a shorter length")  # fmt: skip
    if prefix.network_address != pool.prefix.network_address:
        raise InvalidPoolError(
            f"{prefix} begins before {pool.prefix} of pool {pool.name}: an extended pool must begin at the same "
            "address. Add the other space as a pool of its own with `lastmile pool add`"
        )
    netbox = pool.netbox
    if isinstance(netbox, NetBoxMode) and place is not None:
        netbox = netbox.at(*place)
    wanted = _changed(pool, prefix=prefix, netbox=netbox)
    if wanted.slots.start != pool.slots.start:
        raise InvalidPoolError(
            f"{pool.prefix} of pool {pool.name} gives out its first address, which is no host address in {prefix}. Add "
            "the other space as a pool of its own with `lastmile pool add`"
        )
    pool_id = await _lock(connection, pool)
    given = {
        "pool_id": pool_id,
        "prefix": str(prefix),
        "end_slot": wanted.slots.stop,
        **netbox.columns,
    }
    try:
        async with connection.begin_nested():
            await connection.execute(_EXTEND, given)
    except IntegrityError as failure:
        if "pools_no_overlap" not in str(failure.orig):
            raise
        raise InvalidPoolError(f"{prefix} overlaps another pool: no address may be in two pools") from None
    return wanted


async def remove_pool(connection: PlatformConnection, pool: Pool, quarantine: Quarantine) -> None:
    """Delete an empty pool. Raises `PoolBusyError` while something holds a slot of it, or NetBox has a block for it."""
    place = {"pool_id": await _lock(connection, pool)}
    left = Left(**(await connection.execute(_LEFT, place | asdict(quarantine))).mappings().one())
    if not left.nothing:
        raise PoolBusyError(f"pool {pool.name} cannot be removed, because {in_words(left)}")
    for statement in _REMOVE:
        await connection.execute(statement, place)


def in_words(left: Left) -> str:
    """Say what is left in a pool."""
    parts = []
    if left.held:
        failed = f" ({left.failed:,} of them failed)" if left.failed else ""
        parts.append(f"subscribers hold {count_of(left.held, 'prefix', 'prefixes')}{failed}")
    if left.quarantined:
        verb = "is" if left.quarantined == 1 else "are"
        until = f"{left.quarantined_until:%Y-%m-%d %H:%M} UTC"
        parts.append(f"{count_of(left.quarantined, 'prefix', 'prefixes')} {verb} in quarantine until {until}")
    if left.blocks:
        emptied = "it is empty" if left.blocks == 1 else "they are empty"
        blocks = count_of(left.blocks, "block", "blocks")
        parts.append(f"NetBox has {blocks} for it, which the workers return once {emptied}")
    return "; ".join(parts)


def _changed(pool: Pool, **values: Any) -> Pool:
    """Raises `InvalidPoolError`."""
    try:
        return Pool.model_validate(dict(pool) | values)
    except ValidationError as failure:
        why = failure.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidPoolError(f"pool {pool.name} cannot be changed: {why}") from None


async def _lock(connection: PlatformConnection, pool: Pool) -> int:
    """Lock the pool's row. Raises `PoolBusyError` where the pool has been changed since it was read."""
    pool_id = await connection.scalar(_LOCK, {"name": pool.name, "tenant": pool.tenant})
    if pool_id is None or all(use.pool != pool for use in await list_pools(connection)):
        raise PoolBusyError(f"pool {pool.name} has been changed meanwhile: see `lastmile pool list`, and try again")
    return int(pool_id)
