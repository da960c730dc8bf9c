"""A delegation: one subscriber's hold on one prefix. How to find it and how it changes state."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text

from ipam.lifecycle import State, check
from ipam.prefix import Prefix, as_prefix
from lastmile.contract.addressing import Purpose
from lastmile.db import TenantConnection
from lastmile.db.direct import DirectStatement
from lastmile.errors import LastmileError

__all__ = ["COLUMNS", "Delegation", "StateChangedError", "held_by", "revoked_by", "revoked_for", "transition"]

COLUMNS = """id, tenant_id, pool_id, slot, prefix::text, netbox_id, subscriber_ref, purpose, allocation_key,
    created_by_order, state, state_since, disconnect_confirmed, released_at, replaced_by_order, replaced_at,
    replaced_until, (SELECT vrf FROM pools WHERE pools.id = pool_id) AS vrf"""


@dataclass(frozen=True, slots=True)
class Delegation:
    """One row of `delegations`."""

    id: int
    tenant: str
    pool_id: int
    slot: int | None
    """None: NetBox chooses the prefix."""
    prefix: Prefix | None
    """None: NetBox has not chosen one, yet or at all."""
    netbox_id: int | None
    """NetBox's id of its record."""
    subscriber_ref: str
    purpose: Purpose
    key: str
    """The allocation key (`ipam.allocation_key`), by which NetBox's record is found."""
    created_by_order: str
    state: State
    state_since: datetime
    disconnect_confirmed: bool | None
    released_at: datetime | None
    vrf: str
    """The VRF of its pool."""
    replaced_by_order: str | None = None
    """The order that replaces the prefix by another one, or by none."""
    replaced_at: datetime | None = None
    """When RADIUS stopped assigning the prefix. None: not yet."""
    replaced_until: datetime | None = None
    """The end of the overlap with the new prefix."""

    @classmethod
    def of(cls, row: Row[Any]) -> "Delegation":
        """From a row of `COLUMNS`."""
        values = row._asdict()  # an attribute of a row takes five times as long
        return cls(
            id=values["id"],
            tenant=values["tenant_id"],
            pool_id=values["pool_id"],
            slot=values["slot"],
            prefix=as_prefix(values["prefix"]),
            netbox_id=values["netbox_id"],
            subscriber_ref=values["subscriber_ref"],
            purpose=Purpose(values["purpose"]),
            key=values["allocation_key"],
            created_by_order=values["created_by_order"],
            state=State(values["state"]),
            state_since=values["state_since"],
            disconnect_confirmed=values["disconnect_confirmed"],
            released_at=values["released_at"],
            vrf=values["vrf"],
            replaced_by_order=values["replaced_by_order"],
            replaced_at=values["replaced_at"],
            replaced_until=values["replaced_until"],
        )

    @property
    def chosen_by_netbox(self) -> bool:
        """Whether NetBox chooses the prefix: the pool is direct."""
        return self.slot is None

    def __str__(self) -> str:
        """Return the prefix, or what a message says in its place."""
        return f"a prefix of {self.purpose} from NetBox" if self.prefix is None else str(self.prefix)


class StateChangedError(LastmileError):
    """Another transaction has changed the delegation: read it again, as a retry does."""


# Not only live ones: between REVOKED and the release the delegation still holds its slot.
_HELD_BY = DirectStatement(
    f"SELECT {COLUMNS} FROM delegations WHERE subscriber_ref = :subscriber_ref AND released_at IS NULL ORDER BY id"
)

_REVOKED_BY = DirectStatement(
    f"""
    SELECT {COLUMNS} FROM delegations d WHERE subscriber_ref = :subscriber_ref AND state = 'revoked' AND EXISTS (
        SELECT FROM delegation_events e
        WHERE e.delegation_id = d.id AND e.order_id = :order_id AND e.to_state = 'revoked')
    ORDER BY id
    """
)

_REVOKED_FOR = text(
    """
    SELECT order_id FROM delegation_events WHERE delegation_id = :id AND to_state = 'revoking' ORDER BY id DESC LIMIT 1
    """
)

_TRANSITION = DirectStatement(
    """
    WITH moved AS (
        UPDATE delegations
        SET state = :after, state_since = now(),
            disconnect_confirmed = coalesce(:disconnect_confirmed, disconnect_confirmed)
        WHERE id = :id AND state = :before
        RETURNING id, tenant_id, prefix, subscriber_ref, state_since, disconnect_confirmed, slot, netbox_id
    ), recorded AS (
        INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref,
                                       from_state, to_state, order_id, reason)
        SELECT tenant_id, id, prefix, subscriber_ref, :before, :after, :order_id, :reason FROM moved
    )
    SELECT state_since, disconnect_confirmed, slot, netbox_id FROM moved
    """
)


async def held_by(connection: TenantConnection, subscriber_ref: str) -> list[Delegation]:
    """Return every delegation of the subscriber that was not released, oldest first."""
    rows = await _HELD_BY.all(connection, {"subscriber_ref": subscriber_ref})
    return [Delegation.of(row) for row in rows]


async def revoked_by(connection: TenantConnection, subscriber_ref: str, order_id: str) -> list[Delegation]:
    """Return every delegation of the subscriber that this order has revoked, oldest first."""
    rows = await _REVOKED_BY.all(connection, {"subscriber_ref": subscriber_ref, "order_id": order_id})
    return [Delegation.of(row) for row in rows]


async def revoked_for(connection: TenantConnection, delegation: Delegation) -> str:
    """Return the order that began to revoke the delegation."""
    return str(await connection.scalar(_REVOKED_FOR, {"id": delegation.id}) or delegation.created_by_order)


async def transition(
    connection: TenantConnection,
    delegation: Delegation,
    after: State,
    *,
    order_id: str,
    reason: str,
    disconnect_confirmed: bool | None = None,
) -> Delegation:
    """Move `delegation` to `after` and record the event, in one statement.

    Raises `IllegalTransitionError` where the table has no such transition and `StateChangedError` where the
    delegation is no longer in the state it was read in.
    """
    check(delegation.state, after)
    row = await _TRANSITION.one_or_none(
        connection,
        {
            "id": delegation.id,
            "before": delegation.state,
            "after": after,
            "order_id": order_id,
            "reason": reason,
            "disconnect_confirmed": disconnect_confirmed,
        },
    )
    if row is None:
        raise StateChangedError(f"{delegation} is no longer {delegation.state}")
    # The pool's mode may have changed while the statement waited: take the slot and NetBox id that it has now.
    return replace(delegation, state=after, **row._mapping)
