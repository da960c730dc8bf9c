"""Allocation from a pool that NetBox chooses from (`available-prefixes`), without a leak and without a double.

Our row comes first: a delegation that is pending, with its key and no prefix. Then NetBox is asked, with no
transaction open. Then the row gets what NetBox has recorded under the key. Whatever is lost on the way, the next
attempt finds by the key what an earlier one has made, and NetBox's unique custom field lets nobody make two.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError

from ipam.delegations import COLUMNS, Delegation, StateChangedError
from ipam.errors import PoolMovedError
from ipam.models import Need
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import BoundPool
from ipam.netbox.direct.pending_removals import LATE
from ipam.netbox.errors import KeyTakenError, NetBoxError, NetBoxExhaustedError, NetBoxNotFoundError
from ipam.netbox.records import BlockStamp
from ipam.netbox.requirements import NOT_VISIBLE
from lastmile.db import PlatformConnection, TenantConnection
from lastmile.errors import LastmileError

__all__ = [
    "Elsewhere",
    "PrefixHeldError",
    "begin",
    "block_ids",
    "by_key",
    "holder",
    "next_pool",
    "obtain",
    "restored",
    "settle",
]


class PrefixHeldError(LastmileError):
    """NetBox has given a prefix that a live delegation holds: somebody had deleted its record there."""


class Elsewhere(PoolMovedError):
    """NetBox has something under the key that the pool cannot use: of another pool, or of before somebody moved it."""

    def __init__(self, pool: BoundPool, recorded: NetBoxRecord) -> None:
        super().__init__(_moved(pool, _gave(pool, recorded)))
        self.recorded = recorded


_BEGIN = text(
    f"""
    INSERT INTO delegations (tenant_id, pool_id, subscriber_ref, purpose, allocation_key, created_by_order, state)
    SELECT :tenant, id, :subscriber_ref, :purpose, :key, :order_id, 'pending'
    FROM pools
    WHERE netbox_mode = 'direct' AND NOT lastmile_pool_is_changing(pools)
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
        WHERE netbox_mode = 'direct'
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
    SELECT {COLUMNS}, tenant_id FROM delegations
    WHERE pool_id = :pool_id AND prefix = CAST(:prefix AS cidr) AND slot IS NULL AND released_at IS NULL
    """
)

_RESTORED = text("UPDATE delegations SET netbox_id = :netbox_id WHERE id = :id AND released_at IS NULL")


async def begin(connection: TenantConnection, claim: dict[str, Any]) -> Row[Any] | None:
    """A pending delegation in the first pool in NetBox that would do; None where there is no such pool, or the key
    or the subscriber has got a delegation meanwhile."""
    return (await connection.execute(_BEGIN, claim)).one_or_none()


async def obtain(
    netbox: NetBox,
    pool: BoundPool,
    stamp: Stamp | BlockStamp,
    *,
    length: int,
    fits: Callable[[NetBoxRecord], bool],
    first: bool,
    parent: int | None = None,
) -> NetBoxRecord:
    """What NetBox has recorded under the stamp's key, or chooses now, of this length. `first`: no attempt was made
    before; `fits`: whether the pool can use it; `parent`: NetBox's id of where it chooses, if that is not the pool.

    Raises `PoolMovedError`, `Elsewhere`, and `NetBoxError`: after all but its `NonRetryableError` kinds, try again.
    """
    if not first and (found := await _made_before(netbox, pool, stamp.key, fits)):
        return found
    try:
        given = await netbox.available(parent or pool.netbox.prefix_id, length, stamp)
    except (KeyTakenError, NetBoxExhaustedError):
        # An attempt that waited in NetBox when we looked has been served before us.
        if found := await _made_before(netbox, pool, stamp.key, fits):
            return found
        raise
    except NetBoxNotFoundError:
        raise PoolMovedError(_moved(pool, f"is {NOT_VISIBLE}")) from None
    if not fits(given):
        with suppress(NetBoxError):  # the undo, or the next attempt, finds it by its key
            await netbox.delete(given.id)
        raise PoolMovedError(_moved(pool, _gave(pool, given)))
    return given


async def _made_before(
    netbox: NetBox, pool: BoundPool, key: str, fits: Callable[[NetBoxRecord], bool]
) -> NetBoxRecord | None:
    found = await netbox.find(key)
    if found is not None and not fits(found):
        raise Elsewhere(pool, found)
    return found


def _gave(pool: BoundPool, recorded: NetBoxRecord) -> str:
    return f"gave {recorded.prefix}{'' if recorded.vrf_id == pool.netbox.vrf_id else ' in another VRF'}"


def _moved(pool: BoundPool, what: str) -> str:
    return (
        f"pool {pool} is prefix {pool.netbox.prefix_id} in NetBox, which {what}. Restore it there, "
        "then run `lastmile pool add` again, just as before"
    )


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
    """Move a pending delegation on from its pool, which NetBox has no room in; None where no other pool comes after."""
    criteria = asdict(need) | {"id": delegation.id, "pool_id": delegation.pool_id, "late": LATE}
    row = (await connection.execute(_NEXT_POOL, criteria)).one_or_none()
    return None if row is None else Delegation.of(row)


async def block_ids(connection: TenantConnection, delegation: Delegation) -> list[int]:
    """NetBox's ids of blocks around prefixes of the delegation's pool, if it comes to be delegated, or was; not more
    than can be asked one by one."""
    return list(await connection.scalars(_BLOCK_IDS, {"pool_id": delegation.pool_id}))


async def by_key(connection: TenantConnection, key: str) -> Delegation | None:
    """The delegation of this key, also where it was released."""
    row = (await connection.execute(_BY_KEY, {"key": key})).one_or_none()
    return None if row is None else Delegation.of(row)


async def holder(
    connection: PlatformConnection, pool: BoundPool, recorded: NetBoxRecord
) -> tuple[str, Delegation] | None:
    """Who holds the prefix already: the tenant, and the delegation."""
    row = (await connection.execute(_HOLDER, {"pool_id": pool.id, "prefix": str(recorded.prefix)})).one_or_none()
    return None if row is None else (row.tenant_id, Delegation.of(row))


async def restored(connection: PlatformConnection, delegation: Delegation, recorded: NetBoxRecord) -> None:
    """The delegation's record in NetBox is this one from now on."""
    await connection.execute(_RESTORED, {"id": delegation.id, "netbox_id": recorded.id})
