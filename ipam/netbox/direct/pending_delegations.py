"""Delegations of direct pools, from pending, with a key and no prefix, to allocated, with the prefix of NetBox.

Each function is one statement in the caller's transaction. NetBox is asked between two transactions
(`ipam.netbox.direct.allocator`).
"""

from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError

from ipam.delegations import COLUMNS, Delegation, StateChangedError
from ipam.netbox import NetBoxRecord
from ipam.netbox.binding import BoundPool
from ipam.netbox.direct.pending_removals import LATE
from lastmile.contract.addressing import Need
from lastmile.db import PlatformConnection, TenantConnection
from lastmile.errors import LastmileError

__all__ = ["PrefixHeldError", "begin", "block_ids", "by_key", "holder", "next_pool", "relink", "settle"]


class PrefixHeldError(LastmileError):
    """NetBox has given a prefix that a live delegation holds: its record was deleted in NetBox."""


_BEGIN = text(
    f"""
    INSERT INTO delegations (tenant_id, pool_id, subscriber_ref, purpose, allocation_key, created_by_order, state)
    SELECT :tenant, id, :subscriber_ref, :purpose, :key, :order_id, 'pending'
    FROM pools
    WHERE mode = 'direct'
      AND lastmile_pool_is_candidate(pools, :purpose, :length, :vrf, :pool, :region, :address)
    ORDER BY tenant_id NULLS LAST, id LIMIT 1
    FOR KEY SHARE
    ON CONFLICT DO NOTHING
    RETURNING {COLUMNS}, true AS created
    """
)

# The key may still come up in the pool that is left, if an earlier attempt is waiting there.
_NEXT_POOL = text(
    f"""
    WITH next AS (
        SELECT id FROM pools
        WHERE mode = 'direct'
          AND lastmile_pool_is_candidate(pools, :purpose, :length, :vrf, :pool, :region, :address)
          AND (tenant_id IS NULL, id) > (SELECT tenant_id IS NULL, id FROM pools WHERE id = :pool_id)
        ORDER BY tenant_id NULLS LAST, id LIMIT 1 FOR KEY SHARE
    ), moved AS (
        UPDATE delegations SET pool_id = next.id FROM next
        WHERE delegations.id = :id AND state = 'pending' AND pool_id = :pool_id
        RETURNING delegations.*
    ), to_be_removed AS (
        INSERT INTO netbox_removals (tenant_id, allocation_key, pool_id, due_at)
        SELECT tenant_id, allocation_key, :pool_id, now() + CAST(:late AS interval) FROM moved
    ), full_in_netbox AS (
        UPDATE pools SET netbox_full_since = now() WHERE id = :pool_id AND netbox_full_since IS NULL
    )
    SELECT {COLUMNS} FROM moved
    """
)

_SETTLE = text(
    f"""
    WITH given AS (
        UPDATE delegations SET state = 'allocated', state_since = now(), prefix = CAST(:prefix AS cidr),
                               netbox_id = :netbox_id
        WHERE id = :id AND state = 'pending' AND pool_id = :pool_id
        RETURNING *
    ), recorded AS (
        INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref,
                                       from_state, to_state, order_id, reason)
        SELECT tenant_id, id, prefix, subscriber_ref, 'pending', 'allocated', :order_id, 'allocated' FROM given
    ), not_full AS (
        UPDATE pools SET netbox_full_since = NULL FROM given
        WHERE pools.id = given.pool_id AND netbox_full_since IS NOT NULL
    )
    SELECT {COLUMNS} FROM given
    """
)

# Each costs NetBox a tenth of a second, and an attempt has a minute.
_BLOCK_IDS = text(
    """
    SELECT netbox_id FROM netbox_blocks WHERE pool_id = :pool_id AND netbox_id IS NOT NULL ORDER BY random() LIMIT 100
    """
)

_BY_KEY = text(f"SELECT {COLUMNS} FROM delegations WHERE allocation_key = :key")

_HOLDER = text(
    f"""
    SELECT {COLUMNS} FROM delegations
    WHERE pool_id = :pool_id AND prefix = CAST(:prefix AS cidr) AND slot IS NULL AND released_at IS NULL
    """
)

_RELINK = text("UPDATE delegations SET netbox_id = :netbox_id WHERE id = :id AND released_at IS NULL")


async def begin(connection: TenantConnection, claim: dict[str, Any]) -> Row[Any] | None:
    """Create a pending delegation in the first direct pool that can serve the need.

    None: there is no such pool, or another attempt has created a delegation of the key or the subscriber meanwhile.
    """
    return (await connection.execute(_BEGIN, claim)).one_or_none()


async def settle(
    connection: TenantConnection, delegation: Delegation, recorded: NetBoxRecord, *, order_id: str
) -> Delegation:
    """Give a pending delegation the prefix that NetBox has recorded for it.

    Raises `PrefixHeldError`, and `StateChangedError` where another attempt was faster.
    """
    given = {
        "id": delegation.id,
        "pool_id": delegation.pool_id,
        "prefix": str(recorded.prefix),
        "netbox_id": recorded.id,
        "order_id": order_id,
    }
    try:
        async with connection.begin_nested():
            row = (await connection.execute(_SETTLE, given)).one_or_none()
    except IntegrityError as failure:
        if "delegations_prefix" not in str(failure.orig):
            raise
        raise PrefixHeldError(
            f"NetBox gave {recorded.prefix}, which is held: its record there was deleted"
        ) from failure
    if row is None:
        raise StateChangedError(f"{delegation} is no longer pending")
    return Delegation.of(row)


async def next_pool(connection: TenantConnection, delegation: Delegation, need: Need) -> Delegation | None:
    """Move a pending delegation from its pool, which is full in NetBox, to the next one. None: there is none."""
    criteria = need.by_field() | {"id": delegation.id, "pool_id": delegation.pool_id, "late": LATE}
    row = (await connection.execute(_NEXT_POOL, criteria)).one_or_none()
    return None if row is None else Delegation.of(row)


async def block_ids(connection: TenantConnection, delegation: Delegation) -> list[int]:
    """Return NetBox's ids of the blocks of the delegation's pool, which will be delegated, or was; at most as many as
    can be asked one by one."""
    return list(await connection.scalars(_BLOCK_IDS, {"pool_id": delegation.pool_id}))


async def by_key(connection: TenantConnection, key: str) -> Delegation | None:
    """Return the delegation of this key, also where it was released."""
    row = (await connection.execute(_BY_KEY, {"key": key})).one_or_none()
    return None if row is None else Delegation.of(row)


async def holder(connection: PlatformConnection, pool: BoundPool, recorded: NetBoxRecord) -> Delegation | None:
    """Return the live delegation that has the record's prefix."""
    row = (await connection.execute(_HOLDER, {"pool_id": pool.id, "prefix": str(recorded.prefix)})).one_or_none()
    return None if row is None else Delegation.of(row)


async def relink(connection: PlatformConnection, delegation: Delegation, recorded: NetBoxRecord) -> None:
    """Make this the delegation's record in NetBox."""
    await connection.execute(_RELINK, {"id": delegation.id, "netbox_id": recorded.id})
