"""Rewrite a pool's rows for another NetBox mode, in one transaction: held prefixes stay, and quarantines continue.

The pool is closed to new allocations. Releases and other changes of a delegation continue: one that has begun comes
first, and a later one waits and finds the pool as it is then. One transaction, because a pool that is half converted
has no valid mode. A pool of a million prefixes takes a minute or two, so each conversion needs a connection that has
that time (`Database.long_transaction`).
"""

from sqlalchemy import text

from ipam.errors import PoolBusyError
from ipam.modes import AllocationMode, PoolMode
from ipam.netbox.binding import BoundPool
from ipam.netbox.mode_change.plan import Conversion, bound_as, outdated_message
from lastmile.db import PlatformConnection
from lastmile.errors import LastmileError

__all__ = ["ConversionNotReadyError", "convert"]


class ConversionNotReadyError(LastmileError):
    """The pool is not closed, or its preparation is not complete: prepare, and try again."""


_LOCK = text("SELECT FROM pools WHERE id = :pool_id FOR UPDATE")

_SET = text(
    """
    UPDATE pools SET mode = :mode, netbox_prefix_id = :prefix_id, netbox_vrf_id = :vrf_id,
                     netbox_release = :on_release, netbox_record = :record, netbox_block_length = :block_length,
                     frontier = CASE :mode WHEN 'delegated' THEN end_slot ELSE first_slot END,
                     netbox_full_since = NULL, netbox_closed_until = NULL
    WHERE id = :pool_id
    """
)

# After a conversion, reconciliation must compare everything.
_COMPARE_EVERYTHING = text("DELETE FROM netbox_comparisons WHERE pool_id = :pool_id")

_BEING_ACQUIRED = text("SELECT EXISTS (SELECT FROM netbox_blocks WHERE pool_id = :pool_id AND state = 'acquiring')")

# Blocks do not overlap, so it is enough to count the slots inside them.
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

# Held prefixes (with :held), and all prefixes in quarantine, are due to be reported to NetBox again.
_REPORT = text(
    """
    INSERT INTO netbox_records AS r (pool_id, slot, tenant_id)
    SELECT pool_id, slot, tenant_id FROM slots
    WHERE pool_id = :pool_id AND (:held AND delegation_id IS NOT NULL
          OR delegation_id IS NULL AND free_at > now() AND free_at < 'infinity')
    ON CONFLICT (pool_id, slot) DO UPDATE SET (version, since, due_at) = (SELECT * FROM lastmile_due_again(r))
    """
)

_REPORT_ALL_KNOWN = text(
    """
    UPDATE netbox_records r SET (version, since, due_at) = (SELECT * FROM lastmile_due_again(r))
    WHERE pool_id = :pool_id
    """
)

# An order whose prefix NetBox is choosing has no slot yet.
_CLOSED_AND_QUIET = text(
    """
    SELECT lastmile_pool_is_changing(p) AND NOT EXISTS (
        SELECT FROM delegations d WHERE d.pool_id = p.id AND d.prefix IS NULL AND d.released_at IS NULL)
    FROM pools p WHERE id = :pool_id
    """
)

# A release holds its delegation's row, and then the pool's by a foreign key. Locked in this order, the release comes
# first, or reads its delegation again.
_LOCK_DELEGATIONS = text(
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
    # Quarantines come first: if NetBox has assigned such a prefix again meanwhile, its holder comes last.
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
    # The key is still searched for when the removal is due: NetBox may execute an abandoned request late.
    "UPDATE netbox_removals SET prefix = NULL WHERE pool_id = :pool_id AND prefix IS NOT NULL",
)

# Delegated to direct.
_UNREPORTED = text(
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


# The mode that each conversion begins with.
_FROM = {
    Conversion.DATABASE_TO_DELEGATED: AllocationMode.DATABASE,
    Conversion.DIRECT_TO_DELEGATED: AllocationMode.DIRECT,
    Conversion.DELEGATED_TO_DIRECT: AllocationMode.DELEGATED,
    Conversion.DELEGATED_OPTIONS: AllocationMode.DELEGATED,
    Conversion.DIRECT_OPTIONS: AllocationMode.DIRECT,
}

_STATEMENTS = {Conversion.DIRECT_TO_DELEGATED: _TO_SLOTS, Conversion.DELEGATED_TO_DIRECT: _TO_NETBOX}


async def convert(connection: PlatformConnection, conversion: Conversion, pool_id: int, mode: PoolMode) -> None:
    """Convert the pool to this mode and open it; nothing happens where it has that mode.

    Raises `ConversionNotReadyError`, and `PoolBusyError` where the pool is of another mode than the conversion begins
    with: its prefixes are stored in another way.
    """
    place = {"pool_id": pool_id}
    if mode.reports_prefixes or conversion in _STATEMENTS:
        await connection.execute(_LOCK_DELEGATIONS, place)
    await connection.execute(_LOCK, place)
    pool, present = await bound_as(connection, pool_id, mode)
    if present == mode:
        return
    if present.mode is not _FROM[conversion]:
        raise PoolBusyError(outdated_message(pool.name))
    if not await connection.scalar(_CLOSED_AND_QUIET, place) or not await _prepared(connection, conversion, pool):
        raise ConversionNotReadyError
    for statement in _STATEMENTS.get(conversion, ()):
        await connection.execute(text(statement), place)
    await connection.execute(_SET, mode.columns | place)
    await connection.execute(_COMPARE_EVERYTHING, place)
    if conversion is Conversion.DELEGATED_OPTIONS and present.reports_prefixes is not mode.reports_prefixes:
        await connection.execute(_REPORT_ALL_KNOWN, place)
    if mode.reports_prefixes:
        await connection.execute(_REPORT, place | {"held": not present.reports_prefixes})


async def _prepared(connection: PlatformConnection, conversion: Conversion, pool: BoundPool) -> bool:
    """Return whether every prefix is in a block, or has its record, and no block is being acquired."""
    place = {"pool_id": pool.id}
    if await connection.scalar(_BEING_ACQUIRED, place):
        return False
    match conversion:
        case Conversion.DATABASE_TO_DELEGATED | Conversion.DIRECT_TO_DELEGATED:
            return not await connection.scalar(_OUTSIDE, place)
        case Conversion.DELEGATED_TO_DIRECT:
            return not await connection.scalar(_UNREPORTED, place)
        case _:
            return True
