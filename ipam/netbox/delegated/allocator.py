"""The allocator of delegated pools: from the blocks in the database, and with a further block where all are full."""

from collections.abc import Sequence

from ipam.allocation import Allocation, NoFreeBlock, Released
from ipam.database_allocator import DatabaseAllocator
from ipam.delegations import Delegation
from ipam.netbox import NetBox
from ipam.netbox.binding import require_netbox
from ipam.netbox.delegated.block_acquisition import acquire_for_first
from ipam.netbox.delegated.blocks import NoBlockError
from ipam.order_scope import OrderScope
from lastmile.contract.addressing import Addressing, Need
from lastmile.db import Database

__all__ = ["DelegatedAllocator"]


class DelegatedAllocator:
    """A `PrefixAllocator` that acquires a block from NetBox where the database has no free prefix.

    Nothing else needs NetBox: the outbox reports prefixes, and block maintenance reports how full the blocks are.
    """

    def __init__(self, blocks: DatabaseAllocator, database: Database, netbox: NetBox | None) -> None:
        self._blocks = blocks
        self._database = database
        self._netbox = netbox

    async def allocate(self, order: OrderScope, wanted: Addressing | Need) -> list[Allocation]:
        """Allocate as `DatabaseAllocator.allocate`. Raises `NoBlockError` where NetBox cannot be asked for a block."""
        found = await self._blocks.assign(order, wanted)
        if isinstance(found, NoFreeBlock):
            order.leave_database("acquire a block of prefixes from NetBox")
            netbox = require_netbox(self._netbox, found.pools[0])
            more = await acquire_for_first(self._database, netbox, found.pools)
            found = await self._blocks.assign(order, wanted, more_blocks=more)
        if isinstance(found, NoFreeBlock):  # other orders have used the new block up
            raise NoBlockError(found.pools)
        return found

    async def report(self, order: OrderScope, delegations: Sequence[Delegation]) -> list[str]:
        """Do nothing: the outbox reports the state."""
        return await self._blocks.report(order, delegations)

    async def release(self, order: OrderScope) -> Released:
        """Release as `DatabaseAllocator.release`; the outbox reports the quarantine."""
        return await self._blocks.release(order)
