"""The allocator of the database: pools without NetBox, and blocks that delegated pools have acquired."""

from collections.abc import Sequence

from ipam.allocation import Allocation, NoFreeBlock, Quarantine, Released, assign, release
from ipam.delegations import Delegation, revoked_by
from ipam.lifecycle import State
from ipam.matching import must_match
from ipam.netbox.delegated.blocks import NoBlockError
from ipam.order_scope import NEVER_ANNOUNCED, OrderScope
from lastmile.contract.addressing import Addressing, Need

__all__ = ["DatabaseAllocator"]


class DatabaseAllocator:
    """A `PrefixAllocator` that asks no other system: each call is one transaction of the order."""

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine

    async def allocate(self, order: OrderScope, wanted: Addressing | Need) -> list[Allocation]:
        """Allocate what the order asks for. A pool from which NetBox chooses gives a pending delegation.

        Raises `NoBlockError` where only a further block of a delegated pool would help, and what
        `ipam.allocation.assign` raises.
        """
        found = await self.assign(order, wanted)
        if isinstance(found, NoFreeBlock):
            raise NoBlockError(found.pools)
        return found

    async def assign(
        self, order: OrderScope, wanted: Addressing | Need, *, more_blocks: bool = True
    ) -> list[Allocation] | NoFreeBlock:
        """Allocate as `allocate`, in one transaction; return `NoFreeBlock` where only a further block would help.

        With `more_blocks` False, NetBox has no further block: the allocation goes on to the next kind of pool.
        """
        found: list[Allocation] = []
        async with order.transaction() as connection:
            if isinstance(wanted, Addressing):
                await must_match(connection, order.subscriber_ref, wanted)
            for need in wanted.needs():
                one = await assign(
                    connection,
                    tenant=order.tenant,
                    subscriber_ref=order.subscriber_ref,
                    order_id=order.order_id,
                    need=need,
                    more_blocks=more_blocks,
                )
                if isinstance(one, NoFreeBlock):
                    return one  # a need before it keeps its prefix: the next attempt finds that by its key
                found.append(one)
            if any(one.delegation.state is State.PENDING for one in found):
                order.leave_database("have NetBox choose the prefix")
        return found

    async def report(self, order: OrderScope, delegations: Sequence[Delegation]) -> list[str]:
        """Do nothing: no other system shows the delegations' state."""
        return []

    async def release(self, order: OrderScope) -> Released:
        """Put what the order works on into quarantine. An undo revokes first what was never announced.

        Raises `NotRevokedError` and `StateChangedError`.
        """
        async with order.transaction() as connection:
            held = await order.held(connection)
            # An earlier attempt whose reply was lost has released the prefixes already.
            released = held or await revoked_by(connection, order.subscriber_ref, order.order_id)
            for delegation in held:
                if order.undo and delegation.state in NEVER_ANNOUNCED:
                    delegation = await order.begin_revoking(connection, delegation)
                    delegation = await order.move(connection, delegation, State.REVOKED)
                await release(connection, delegation, self._quarantine)
            if any(one.chosen_by_netbox for one in released):
                order.leave_database("release the prefix in NetBox")
        return Released(released)
