"""The order on whose behalf prefixes are allocated, activated and released."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from ipam.delegations import Delegation, held_by, transition
from ipam.lifecycle import State
from lastmile.db import TenantConnection

__all__ = ["NEVER_ANNOUNCED", "OrderScope"]

NEVER_ANNOUNCED = frozenset({State.PENDING, State.ALLOCATED, State.FAILED})
"""The states of a delegation that neither RADIUS nor a session knows of yet."""


def _stay(reason: str) -> None:
    """Allow the caller to wait for systems other than the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderScope:
    """One order of a subscriber, or its undo: its identity, its transactions and what it may change."""

    tenant: str
    subscriber_ref: str
    order_id: str
    undo: bool = False
    replaced: bool = False
    """The order works only on the prefixes that RADIUS does not assign any more, since an order has replaced them."""
    transaction: Callable[[], AbstractAsyncContextManager[TenantConnection]]
    """Open a transaction. Raises `OrderFencedError` where the order has moved on, and must not act any more."""
    leave_database: Callable[[str], None] = _stay
    """Called with the reason before NetBox is asked. Raises where the caller must not wait for other systems; a
    transaction that is open then is rolled back."""

    async def held(self, connection: TenantConnection) -> list[Delegation]:
        """Return the delegations that the order works on: the subscriber's, or in an undo those that it created."""
        held = await held_by(connection, self.subscriber_ref)
        if self.replaced:
            held = [one for one in held if one.replaced_at is not None]
        return [one for one in held if not self.undo or one.created_by_order == self.order_id]

    async def move(
        self,
        connection: TenantConnection,
        delegation: Delegation,
        state: State,
        *,
        disconnect_confirmed: bool | None = None,
    ) -> Delegation:
        """Move the delegation to the state. Raises what `ipam.delegations.transition` raises."""
        return await transition(
            connection,
            delegation,
            state,
            order_id=self.order_id,
            reason="undone" if self.undo else "ordered",
            disconnect_confirmed=disconnect_confirmed,
        )

    async def begin_revoking(self, connection: TenantConnection, delegation: Delegation) -> Delegation:
        """Move the delegation to REVOKING from any live state; a pending one has failed first."""
        if delegation.state is State.PENDING:
            delegation = await self.move(connection, delegation, State.FAILED)
        if delegation.state is not State.REVOKING:
            delegation = await self.move(connection, delegation, State.REVOKING)
        return delegation
