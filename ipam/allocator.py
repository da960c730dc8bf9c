"""The contract of an allocator: who chooses a prefix may differ, what an order can rely on does not."""

from collections.abc import Sequence
from typing import Protocol

from ipam.allocation import Allocation, Released
from ipam.delegations import Delegation
from ipam.order_scope import OrderScope
from lastmile.contract.addressing import Addressing, Need

__all__ = ["PrefixAllocator"]


class PrefixAllocator(Protocol):
    """Allocates, activates and releases the prefixes of orders.

    Implementations, by who chooses the prefix (`ipam.modes.AllocationMode`):
        `ipam.database_allocator.DatabaseAllocator`: the database.
        `ipam.netbox.delegated.allocator.DelegatedAllocator`: the database, in a block that NetBox chose.
        `ipam.netbox.direct.allocator.DirectAllocator`: NetBox.

    Each opens its own transactions through the order's scope, and none is open while NetBox is asked. A call can be
    repeated after any failure. `tests/ipam/test_allocator_contract.py` holds each implementation to the same contract,
    and `bench/netbox.py` measures each.
    """

    async def allocate(self, order: OrderScope, wanted: Addressing | Need) -> list[Allocation]:
        """Return one allocation for each need; the same order always gets the same prefixes.

        An addressing says what the line has as a whole. A need is one prefix beside what the line has.
        """
        ...

    async def report(self, order: OrderScope, delegations: Sequence[Delegation]) -> list[str]:
        """Report delegations that have changed their state; return what is wrong with their records."""
        ...

    async def release(self, order: OrderScope) -> Released:
        """Put the prefixes that the order works on into quarantine; once they are there, change nothing."""
        ...
