"""Allocate and release prefixes in the database. The contract: the same key always returns the same prefix.

`delegations` records which subscriber holds what. Its unique indexes make a double allocation impossible: one
delegation for each key for all time, one holder of a slot, one live delegation of a subscriber and purpose.

`slots` makes finding a free slot cheap. It has a row for each slot below the pool's frontier, which moves a batch at a
time. Allocations claim rows with SKIP LOCKED: they do not wait for each other, and a full pool costs what an empty one
does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import text

from ipam.allocation_key import AllocationKey
from ipam.delegations import Delegation, StateChangedError, transition
from ipam.errors import (
    AddressTakenError,
    AllocationSpentError,
    DelegationBusyError,
    DelegationMismatchError,
    NotRevokedError,
    PoolChangingError,
    PoolExhaustedError,
    UnknownPoolError,
)
from ipam.lifecycle import State
from ipam.netbox.binding import BoundPool
from ipam.netbox.delegated import blocks
from ipam.netbox.direct import pending_delegations
from ipam.netbox.direct.pending_removals import LATE
from lastmile.contract.addressing import Need, vrf_words
from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.db.statements import read_sql

__all__ = ["Allocation", "NoFreeBlock", "Quarantine", "Released", "allocate", "assign", "check_open", "release"]

# The frontier moves by this many slots: one allocation in so many locks the pool's row.
FRONTIER_BATCH = 256


@dataclass(frozen=True, slots=True)
class Allocation:
    """A delegation, and whether this call created it or found it.

    While the delegation is pending, NetBox has yet to choose its prefix (`ipam.netbox.direct.allocator`).
    """

    delegation: Delegation
    created: bool


@dataclass(frozen=True, slots=True)
class NoFreeBlock:
    """No block of these delegated pools has a free prefix, and NetBox may have a further block.

    The caller acquires one outside of the transaction (`ipam.netbox.delegated.allocator`).
    """

    pools: Sequence[BoundPool]


@dataclass(frozen=True, slots=True)
class Released:
    """The delegations that were released, and what is wrong with their records in NetBox."""

    delegations: Sequence[Delegation]
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """How long a released prefix is withheld from other subscribers."""

    confirmed: timedelta
    unconfirmed: timedelta
    """The time where no NAS confirmed that the subscriber's session has ended."""


@cache
def _allocate(*, static: bool, wait: bool) -> DirectStatement:
    """Return the statement that allocates; `static` for the address of the need, `wait` to wait for other claims."""
    lock = "FOR UPDATE OF s" if wait else "FOR UPDATE OF s SKIP LOCKED"
    slot = "s.slot = lastmile_slot(c.prefix, c.delegated_length, CAST(:address AS inet)::cidr)" if static else "true"
    return DirectStatement(read_sql("ipam", "allocate", lock=lock, slot=slot))


_GROW = text(read_sql("ipam", "grow_frontier")).bindparams(batch=FRONTIER_BATCH)

_REACH_ADDRESS = text(
    """
    INSERT INTO slots (pool_id, slot, tenant_id)
    SELECT id, slot, tenant_id
    FROM pools, LATERAL (SELECT lastmile_slot(prefix, delegated_length, CAST(:address AS inet)::cidr) AS slot) s
    WHERE mode <> 'direct'
      AND lastmile_pool_is_candidate(pools, :purpose, :length, :vrf, :pool, :region, :address)
      AND slot >= first_slot AND slot < end_slot AND NOT slot <@ excluded
    ON CONFLICT DO NOTHING
    """
)

_CANDIDATES = text(
    """
    SELECT name, prefix::text, vrf, mode <> 'database' AS in_netbox, lastmile_pool_is_changing(pools) AS closed,
           closed_at IS NOT NULL AS by_operator
    FROM pools WHERE lastmile_pool_serves(pools, :purpose, :length, :pool, :region, :address)
    ORDER BY tenant_id NULLS LAST, id
    """
)

# Not the lock of the pool's row: a change of mode holds that lock while it waits for delegations
# (`ipam.netbox.mode_change.conversion`).
_HOLD_EXCLUSIONS = DirectStatement("SELECT pg_advisory_xact_lock_shared(lastmile_exclusions_lock(:pool_id))")

_RELEASE = DirectStatement(read_sql("ipam", "release"))

_RELEASED = text("SELECT released_at IS NOT NULL FROM delegations WHERE id = :id")


async def allocate(
    connection: TenantConnection, *, tenant: str, subscriber_ref: str, order_id: str, need: Need
) -> Allocation:
    """Allocate as `assign`. Raises `NoBlockError` in place of `NoFreeBlock`: the caller acquires no block."""
    found = await assign(connection, tenant=tenant, subscriber_ref=subscriber_ref, order_id=order_id, need=need)
    if isinstance(found, NoFreeBlock):
        raise blocks.NoBlockError(found.pools)
    return found


async def assign(
    connection: TenantConnection,
    *,
    tenant: str,
    subscriber_ref: str,
    order_id: str,
    need: Need,
    more_blocks: bool = True,
) -> Allocation | NoFreeBlock:
    """Give the subscriber a prefix for `need`; the same call again, in any transaction, gives the same prefix.

    At most three statements, whatever the size and the use of the pool; more only where the call loses a race for
    the last prefix of a pool, or finds nothing. Pools from which NetBox chooses come last: their allocation is pending.
    Returns `NoFreeBlock` where a block of a delegated pool might help, unless NetBox is known to have none
    (`more_blocks`). Raises `PoolChangingError`, and the `NonRetryableError` kinds of `ipam.errors`.
    """
    wanted = need.by_field()
    key = AllocationKey(tenant, subscriber_ref, need.purpose, order_id)
    claim = wanted | {
        "tenant": tenant,
        "subscriber_ref": subscriber_ref,
        "order_id": order_id,
        "key": str(key),
        "holder": key.holder,
    }
    static = need.address is not None
    if static:
        await connection.execute(_REACH_ADDRESS, wanted)
    row: Any = await _allocate(static=static, wait=False).one_or_none(connection, claim)
    # The second round is for a call that waited in the first and lost: another attempt with the same key has won
    # meanwhile, or other orders have used up the free slots of a pool.
    for second in (False, True):
        if row is None and second:
            # A pool that opens after this question serves the second round: it is not full.
            await check_open(connection, need)
        if row is None:
            # No other transaction can see the slots that this one has added, so there is none to wait for.
            grown = not static and (await connection.execute(_GROW, wanted)).rowcount > 0
            row = await _allocate(static=static, wait=not grown).one_or_none(connection, claim)
        if row is None and not static:
            if more_blocks and (delegated := await blocks.for_need(connection, need)):
                return NoFreeBlock(delegated)
            row = await pending_delegations.begin(connection, claim)
    if row is None:
        raise await _nothing_left(connection, wanted, need)
    delegation = Delegation.of(row)
    if not row.created:
        same_key = delegation.key == claim["key"]
        if same_key and delegation.state is State.FAILED and delegation.prefix is None:
            # An earlier attempt failed, and its reply was lost: try again, so that the caller gets the reason.
            delegation = await transition(connection, delegation, State.PENDING, order_id=order_id, reason="again")
        _must_serve(delegation, need, same_key=same_key)
    return Allocation(delegation, created=row.created)


async def release(connection: TenantConnection, delegation: Delegation, quarantine: Quarantine) -> None:
    """Put the prefix of a revoked delegation into quarantine; change nothing where that has happened.

    For a direct pool the caller deprecates or deletes the record (`ipam.netbox.direct.record_updates`). Raises
    `NotRevokedError` where the delegation is in another state, since its subscriber may still use the prefix, and
    `StateChangedError` where the pool's mode has changed at this moment.
    """
    if delegation.slot is not None:  # else a concurrent exclusion and this release would each not see the other
        await _HOLD_EXCLUSIONS.all(connection, {"pool_id": delegation.pool_id})
    (row,) = await _RELEASE.all(
        connection,
        {
            "id": delegation.id,
            "slot": delegation.slot,
            "confirmed": quarantine.confirmed,
            "unconfirmed": quarantine.unconfirmed,
            "late": LATE,
        },
    )
    if row.state != State.REVOKED:
        raise NotRevokedError(f"{delegation} is {row.state}: revoke it before it is released")
    # Only a later statement sees what another attempt has released while this one waited.
    if not row.released and not await connection.scalar(_RELEASED, {"id": delegation.id}):
        raise StateChangedError(f"the pool of {delegation} has been changed")


def _must_serve(found: Delegation, need: Need, *, same_key: bool) -> None:
    """Raise unless a delegation that was there before can be what the order asked for."""
    holder = f"{found.subscriber_ref} holds {found} ({found.purpose})"
    if found.state is State.REVOKED:
        raise AllocationSpentError(
            f"this order had {found} for {found.subscriber_ref} and has released it: send a new order"
        )
    if found.state in (State.REVOKING, State.FAILED):
        raise DelegationBusyError(f"{holder}, which is {found.state}: finish its deprovisioning first")
    if same_key or found.prefix is None:
        return
    if found.vrf != need.vrf:
        raise DelegationMismatchError(
            f"{holder} in {vrf_words(found.vrf)}, not in {vrf_words(need.vrf)}: order change_addressing, or "
            "deprovision the line first"
        )
    if found.prefix.prefixlen != need.length:
        raise DelegationMismatchError(
            f"{holder}, not a /{need.length}: order change_addressing, or deprovision the line first"
        )
    if need.address is not None and found.prefix.network_address != need.address:
        raise DelegationMismatchError(
            f"{holder}, not {need.address}: order change_addressing, or deprovision the line first"
        )


async def check_open(connection: TenantConnection, need: Need) -> None:
    """Raise `PoolChangingError` where a pool that would serve the need is closed while its NetBox mode changes."""
    found = await connection.execute(_CANDIDATES, need.by_field())
    if closed := [row.name for row in found if row.vrf == need.vrf and row.closed and not row.by_operator]:
        raise _changing(closed)


def _changing(pools: list[str]) -> PoolChangingError:
    return PoolChangingError(
        f"pool {', '.join(pools)} is closed while its NetBox mode changes (`lastmile pool set`): the order continues "
        "by itself when the pool is open again"
    )


async def _nothing_left(
    connection: TenantConnection, wanted: dict[str, Any], need: Need
) -> UnknownPoolError | PoolExhaustedError | AddressTakenError | PoolChangingError:
    found = list(await connection.execute(_CANDIDATES, wanted))
    suitable = [row for row in found if row.vrf == need.vrf]
    rows = [row for row in suitable if not row.by_operator]
    if closed := [row.name for row in rows if row.closed]:
        return _changing(closed)
    pools = [f"{row.name} ({row.prefix})" for row in rows]
    hints = "".join(f", {name} {value!r}" for name, value in (("name", need.pool), ("region", need.region)) if value)
    if suitable and not pools:
        names = ", ".join(row.name for row in suitable)
        return UnknownPoolError(
            f"pool {names} is closed to new allocations: open it with `lastmile pool open`, or add a pool"
        )
    if not pools:
        where = f" containing {need.address}" if need.address else ""
        remedy = "add one with `lastmile pool add`"
        if found:
            others = ", ".join(f"{row.name} is in {vrf_words(row.vrf)}" for row in found)
            remedy += f", or order from the VRF of an existing pool (addressing.vrf): {others}"
        vrf = f" in {vrf_words(need.vrf)}" if need.vrf or found else ""
        return UnknownPoolError(f"no {need.purpose} pool of /{need.length}s{where}{vrf}{hints}: {remedy}")
    if need.address is not None:
        return AddressTakenError(
            f"{need.address} of pool {pools[0]} is held by another subscriber, in quarantine, excluded, "
            "or not a host address: ask for another one"
        )
    space = " free space in NetBox," if any(row.in_netbox for row in rows) else ""
    return PoolExhaustedError(
        f"Cannot allocate a /{need.length} from pool {', '.join(pools)}: no free prefix left. Add a pool with "
        f"`lastmile pool add`,{space} or wait until a released prefix leaves quarantine"
    )
