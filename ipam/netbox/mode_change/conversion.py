"""From one mode of a pool to another, in one transaction: what is held keeps its prefix, what rests goes on resting.

Whoever allocates or releases at that moment waits, and finds the pool as it is afterwards. Allocations hold the
pool's row by their foreign key; those that are about to claim a slot are kept from it by the slot's lock, which is
therefore taken first. A pool of a million prefixes takes a minute or two: each of these needs a connection that has as
long (`Database.at_leisure`).
"""

from typing import Any

from sqlalchemy import text

from ipam.errors import PoolBusyError
from ipam.netbox.binding import AllocationMode, Binding, BoundPool, ReportingScope
from lastmile.db import PlatformConnection
from lastmile.errors import LastmileError

__all__ = ["ConversionNotReadyError", "adjust", "become_delegated", "become_direct", "changed", "rebind"]


class ConversionNotReadyError(LastmileError):
    """Something has changed, or is about to, that has to be seen to first."""


_ALONE = text("SELECT netbox_mode FROM pools WHERE id = :pool_id FOR UPDATE")

_SET = text(
    """
    UPDATE pools SET netbox_mode = :mode, netbox_prefix_id = :prefix_id, netbox_vrf_id = :vrf_id,
                     netbox_release = :on_release, netbox_record = :record, netbox_block_length = :block_length,
                     frontier = CASE :mode WHEN 'delegated' THEN end_slot ELSE first_slot END,
                     netbox_full_since = NULL
    WHERE id = :pool_id
    """
)

# What has changed since its last pass is not enough for the reconciliation now.
_ANEW = text("DELETE FROM netbox_passes WHERE pool_id = :pool_id")

_BEING_TAKEN = text("SELECT EXISTS (SELECT FROM netbox_blocks WHERE pool_id = :pool_id AND state = 'taking')")

# Blocks do not overlap, so to count what is in them will do.
_OUTSIDE = text(
    """
    SELECT (SELECT count(*) FROM slots WHERE pool_id = :pool_id)
         - coalesce(sum((SELECT count(*) FROM slots
                         WHERE pool_id = :pool_id AND slot >= b.first_slot AND slot < b.end_slot)), 0)
         + (SELECT count(*) FROM (
                SELECT prefix FROM delegations
                WHERE pool_id = :pool_id AND slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL
                UNION ALL SELECT prefix FROM netbox_removals WHERE pool_id = :pool_id AND prefix IS NOT NULL) d
            WHERE NOT EXISTS (SELECT FROM netbox_blocks
                              WHERE pool_id = :pool_id AND state = 'open' AND prefix >>= d.prefix))
    FROM netbox_blocks b WHERE pool_id = :pool_id AND state = 'open'
    """
)

# Of what is held, or all that rests, NetBox is to be told anew.
_TELL = text(
    """
    INSERT INTO netbox_records AS r (pool_id, slot, tenant_id)
    SELECT pool_id, slot, tenant_id FROM slots
    WHERE pool_id = :pool_id AND (:held AND delegation_id IS NOT NULL
          OR delegation_id IS NULL AND free_at > now() AND free_at < 'infinity')
    ON CONFLICT (pool_id, slot) DO UPDATE SET (version, since, due_at) = (SELECT * FROM lastmile_due_again(r))
    """
)

_TELL_ALL_KNOWN = text(
    """
    UPDATE netbox_records r SET (version, since, due_at) = (SELECT * FROM lastmile_due_again(r))
    WHERE pool_id = :pool_id
    """
)

# Before NetBox comes to be told of each prefix, too: what a delegation under way becomes is known, or told by itself.
# Direct to delegated. A release that is under way holds its delegation's row, and then the pool's by a foreign key: in
# this order it is waited for, and comes first, or reads its delegation again. New ones the closed pool has none.
_CLOSED_AND_QUIET = text(
    """
    SELECT coalesce(netbox_closed_until > now(), false) AND NOT EXISTS (
        SELECT FROM delegations d WHERE d.pool_id = p.id AND d.prefix IS NULL AND d.released_at IS NULL)
    FROM pools p WHERE id = :pool_id
    """
)

_HOLD = text(
    """
    SELECT count(*) FROM (
        SELECT FROM delegations WHERE pool_id = :pool_id AND released_at IS NULL FOR UPDATE) held
    """
)

_SHARED = """
    SELECT d.id, d.tenant_id AS holder_tenant, d.subscriber_ref, d.purpose, d.allocation_key, d.netbox_id,
           p.tenant_id, r.due_at, lastmile_slot(p.prefix, p.delegated_length, d.prefix) AS slot
    FROM delegations d JOIN pools p ON p.id = d.pool_id
    LEFT JOIN netbox_removals r ON r.pool_id = d.pool_id AND r.tenant_id = d.tenant_id
                               AND r.allocation_key = d.allocation_key AND r.prefix = d.prefix
    WHERE d.pool_id = :pool_id AND d.slot IS NULL AND d.prefix IS NOT NULL
      AND (d.released_at IS NULL OR r.due_at IS NOT NULL)
"""

_TO_SLOTS = (
    "DELETE FROM netbox_records WHERE pool_id = :pool_id",
    # What rests first, in case of a prefix that a person let NetBox give away meanwhile: its holder comes last.
    f"""
    WITH shared AS ({_SHARED} ORDER BY r.due_at)
    INSERT INTO netbox_records (pool_id, slot, tenant_id, netbox_id, key)
    SELECT DISTINCT ON (slot) :pool_id, slot, tenant_id, netbox_id, allocation_key
    FROM shared ORDER BY slot, due_at DESC NULLS FIRST
    """,
    f"""
    WITH shared AS ({_SHARED})
    UPDATE slots s SET free_at = shared.due_at,
                       last_holder = lastmile_holder(holder_tenant, subscriber_ref, purpose)
    FROM shared WHERE s.pool_id = :pool_id AND s.slot = shared.slot AND shared.due_at IS NOT NULL
    """,
    f"""
    WITH shared AS ({_SHARED})
    UPDATE slots s SET delegation_id = shared.id, free_at = '-infinity', last_holder = NULL
    FROM shared WHERE s.pool_id = :pool_id AND s.slot = shared.slot AND shared.due_at IS NULL
    """,
    f"""
    WITH shared AS ({_SHARED})
    UPDATE delegations d SET slot = shared.slot, netbox_id = NULL FROM shared WHERE d.id = shared.id
    """,
    # The key is still looked for when it is due: a request that was given up on may have been done late.
    "UPDATE netbox_removals SET prefix = NULL WHERE pool_id = :pool_id AND prefix IS NOT NULL",
)

# Delegated to direct.
_LOCK_FREE = text(
    """
    SELECT count(*) FROM (SELECT FROM slots WHERE pool_id = :pool_id AND delegation_id IS NULL FOR UPDATE) free
    """
)

_UNTOLD = text(
    """
    SELECT EXISTS (SELECT FROM netbox_records WHERE pool_id = :pool_id AND (since IS NOT NULL OR unsure))
        OR EXISTS (SELECT FROM delegations d WHERE pool_id = :pool_id AND released_at IS NULL AND NOT EXISTS (
                       SELECT FROM netbox_records r WHERE r.pool_id = d.pool_id AND r.slot = d.slot
                                                      AND r.netbox_id IS NOT NULL AND r.key = d.allocation_key))
    """
)

_TO_NETBOX = (
    """
    INSERT INTO netbox_removals (tenant_id, allocation_key, pool_id, prefix, netbox_id, due_at)
    SELECT d.tenant_id, d.allocation_key, d.pool_id, d.prefix, r.netbox_id, s.free_at
    FROM slots s JOIN netbox_records r ON r.pool_id = s.pool_id AND r.slot = s.slot
    JOIN delegations d ON d.pool_id = s.pool_id AND d.slot = s.slot AND d.allocation_key = r.key
    WHERE s.pool_id = :pool_id AND s.delegation_id IS NULL AND s.free_at > now() AND s.free_at < 'infinity'
      AND r.netbox_id IS NOT NULL
    ON CONFLICT (tenant_id, allocation_key, pool_id) DO UPDATE
    SET prefix = excluded.prefix, netbox_id = excluded.netbox_id, due_at = excluded.due_at
    """,
    """
    UPDATE delegations d SET slot = NULL, netbox_id = r.netbox_id FROM netbox_records r
    WHERE d.pool_id = :pool_id AND r.pool_id = d.pool_id AND r.slot = d.slot
      AND (d.released_at IS NULL OR EXISTS (
          SELECT FROM netbox_removals x WHERE x.tenant_id = d.tenant_id AND x.pool_id = d.pool_id
                                          AND x.allocation_key = d.allocation_key AND x.prefix = d.prefix))
    """,
    "DELETE FROM slots WHERE pool_id = :pool_id",
    "DELETE FROM netbox_records WHERE pool_id = :pool_id",
    "DELETE FROM netbox_foreign_prefixes WHERE pool_id = :pool_id",
    "UPDATE netbox_blocks SET state = 'returning', since = now() WHERE pool_id = :pool_id",
)


async def become_delegated(connection: PlatformConnection, pool: BoundPool, *, direct: bool) -> None:
    """From the database alone, or from `direct`. Raises `ConversionNotReadyError` where something is outside of all
    blocks, and where orders can still ask NetBox for a prefix."""
    place = {"pool_id": pool.id}
    if direct or pool.netbox.record is ReportingScope.PREFIX:
        await connection.execute(_HOLD, place)
    await _alone(connection, pool, AllocationMode.DIRECT if direct else None)
    if direct and not await connection.scalar(_CLOSED_AND_QUIET, place):
        raise ConversionNotReadyError
    if await connection.scalar(_BEING_TAKEN, place) or await connection.scalar(_OUTSIDE, place):
        raise ConversionNotReadyError
    for statement in _TO_SLOTS if direct else ():
        await connection.execute(text(statement), place)
    await rebind(connection, pool)
    if pool.netbox.record is ReportingScope.PREFIX:
        await connection.execute(_TELL, place | {"held": True})


async def become_direct(connection: PlatformConnection, pool: BoundPool) -> None:
    """From delegated, where NetBox was told of every prefix. Raises `ConversionNotReadyError` while it was not."""
    place = {"pool_id": pool.id}
    await connection.execute(_LOCK_FREE, place)
    await _alone(connection, pool, AllocationMode.DELEGATED)
    await connection.execute(_HOLD, place)
    if await connection.scalar(_BEING_TAKEN, place) or await connection.scalar(_UNTOLD, place):
        raise ConversionNotReadyError
    for statement in _TO_NETBOX:
        await connection.execute(text(statement), place)
    await rebind(connection, pool)


async def adjust(connection: PlatformConnection, pool: BoundPool, before: Binding) -> None:
    """Another record, block length or `on_release` of a delegated pool. Raises `ConversionNotReadyError` while a block
    is being taken: its length was said to NetBox."""
    place = {"pool_id": pool.id}
    if before.record is not pool.netbox.record is ReportingScope.PREFIX:
        await connection.execute(_HOLD, place)
    await _alone(connection, pool, AllocationMode.DELEGATED)
    if await connection.scalar(_BEING_TAKEN, place):
        raise ConversionNotReadyError
    await rebind(connection, pool)
    if before.record is not pool.netbox.record:
        await connection.execute(_TELL_ALL_KNOWN, place)
    if pool.netbox.record is ReportingScope.PREFIX:
        await connection.execute(_TELL, place | {"held": before.record is not ReportingScope.PREFIX})


async def _alone(connection: PlatformConnection, pool: BoundPool, mode: AllocationMode | None) -> None:
    """Have the pool to ourselves.

    Raises `PoolBusyError` unless it is of the mode that it is to be brought from: what is held in it is written in its
    way.
    """
    if await connection.scalar(_ALONE, {"pool_id": pool.id}) != mode:
        raise PoolBusyError(changed(pool.name))


def changed(pool: str) -> str:
    """What to tell whoever comes second."""
    return f"pool {pool} has been changed by somebody else meanwhile: see `lastmile pool list`, and try again"


async def rebind(connection: PlatformConnection, pool: BoundPool) -> None:
    """Write where and how the pool is in NetBox."""
    values: dict[str, Any] = pool.netbox.model_dump(mode="json")
    await connection.execute(_SET, values | {"pool_id": pool.id})
    await connection.execute(_ANEW, {"pool_id": pool.id})
