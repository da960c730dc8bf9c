"""The allocator of direct pools: NetBox chooses each prefix (`available-prefixes`), none leaked, none given twice.

The delegation comes first: pending, with its allocation key and no prefix. Then NetBox is asked, with no transaction
open. Then the delegation gets what NetBox has recorded under the key. A retry finds by the key what an attempt whose
reply was lost has created.

While NetBox is asked, the undo, an order that takes over, or a second attempt can overtake the attempt. The state that
the attempt finds afterwards decides. `ipam.netbox.direct.pending_removals` removes what is left in NetBox.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from ipam.allocation import Allocation, Released, check_open
from ipam.allocator import PrefixAllocator
from ipam.delegations import Delegation, StateChangedError, transition
from ipam.errors import DelegationMismatchError, PoolExhaustedError, PoolMovedError
from ipam.lifecycle import State
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import BoundPool, bound_pools, find_record, require_netbox
from ipam.netbox.direct import pending_delegations
from ipam.netbox.direct.chosen_prefix import RecordElsewhereError, obtain
from ipam.netbox.direct.pending_removals import remove_due
from ipam.netbox.direct.record_updates import release_records, show_states
from ipam.netbox.errors import NetBoxError, NetBoxExhaustedError
from ipam.order_scope import OrderScope
from lastmile.contract.addressing import Addressing, Need
from lastmile.db import Database
from lastmile.errors import NonRetryableError, OrderFencedError

__all__ = ["DirectAllocator"]

REMOVALS_WHEN_FULL = 20


class DirectAllocator:
    """A `PrefixAllocator` that has NetBox choose the prefix of each allocation that another one leaves pending."""

    def __init__(self, others: PrefixAllocator, database: Database, netbox: NetBox | None) -> None:
        self._others = others
        self._database = database
        self._netbox = netbox

    async def allocate(self, order: OrderScope, wanted: Addressing | Need) -> list[Allocation]:
        """Allocate what the order asks for; no allocation is pending.

        Raises `OrderFencedError`, `PoolExhaustedError`, `PoolMovedError`, `DelegationMismatchError`, `NoNetBoxError`
        and `NetBoxError`. After those that a retry cannot fix the delegation is failed.
        """
        found = await self._others.allocate(order, wanted)
        return [
            Allocation(await self._complete(order, one, need), created=one.created)
            if one.delegation.state is State.PENDING
            else one
            for one, need in zip(found, wanted.needs(), strict=True)
        ]

    async def report(self, order: OrderScope, delegations: Sequence[Delegation]) -> list[str]:
        """Show the delegations' states in NetBox; return what is wrong there. Raises `NetBoxError`."""
        chosen = [one for one in delegations if one.chosen_by_netbox]
        problems = await self._others.report(order, delegations)
        return problems + await show_states(self._database, self._netbox, order.tenant, chosen)

    async def release(self, order: OrderScope) -> Released:
        """Release the prefixes, and deprecate or delete their records in NetBox. Raises `NetBoxError`."""
        released = await self._others.release(order)
        chosen = [one for one in released.delegations if one.chosen_by_netbox]
        if not chosen:
            return released
        problems = await release_records(self._database, self._netbox, order.tenant, chosen)
        return Released(released.delegations, [*released.problems, *problems])

    async def _complete(self, order: OrderScope, allocation: Allocation, need: Need) -> Delegation:
        """Return the delegation with the prefix that NetBox has chosen for it, now or in an earlier attempt."""
        pending = allocation.delegation
        async with self._failing(order, pending):
            while True:
                pool = await self._pool(order, pending)
                if pool.length != need.length:
                    raise DelegationMismatchError(
                        f"{order.subscriber_ref} waits for a /{pool.length}, not a /{need.length}: deprovision it first"
                    )
                try:
                    record = await self._obtain(order, pending, pool, first=allocation.created)
                except NetBoxExhaustedError:
                    pending = await self._next_try(order, pending, pool, need)
                except RecordElsewhereError as late:
                    await self._discard(order, pending, pool, late.record)
                else:
                    return await self._settle(order, pending, pool, record)

    async def _obtain(self, order: OrderScope, pending: Delegation, pool: BoundPool, *, first: bool) -> NetBoxRecord:
        """Obtain a prefix as `chosen_prefix.obtain`. Where the rest of the pool is full, obtain it from a block.

        A pool does not change its mode while an order waits for a prefix of it, and NetBox gives nothing out of a block
        by itself.
        """
        new = Stamp.of(pending, State.ALLOCATED)
        chosen = partial(obtain, require_netbox(self._netbox, pool), pool, new, length=pool.length, fits=pool.has)
        try:
            return await chosen(first=first)
        except NetBoxExhaustedError:
            async with self._database.tenant(order.tenant) as connection:
                blocks = await pending_delegations.block_ids(connection, pending)
            if not blocks:
                raise
        for block in blocks:
            with suppress(NetBoxExhaustedError, PoolMovedError):  # the block is full, or has been returned meanwhile
                return await chosen(first=False, parent=block)
        return await chosen(first=False)

    async def _next_try(self, order: OrderScope, pending: Delegation, pool: BoundPool, need: Need) -> Delegation:
        """After a full pool, return the delegation to try again with. Raises `PoolExhaustedError`."""
        if await remove_due(self._database, require_netbox(self._netbox, pool), most=REMOVALS_WHEN_FULL, pool=pool):
            return pending
        async with order.transaction() as connection:
            moved = await pending_delegations.next_pool(connection, pending, need)
            if moved is None:
                await check_open(connection, need)
        if moved is None:
            raise PoolExhaustedError(
                f"Cannot allocate a /{pool.length} from pool {pool}: NetBox has no free prefix left in it, nor in "
                "another pool. Add a pool with `lastmile pool add`, free space in NetBox, or wait until a released "
                "prefix leaves quarantine"
            )
        return moved

    async def _settle(
        self, order: OrderScope, pending: Delegation, pool: BoundPool, record: NetBoxRecord
    ) -> Delegation:
        try:
            async with order.transaction() as connection:
                return await pending_delegations.settle(connection, pending, record, order_id=order.order_id)
        except OrderFencedError:
            await self._remove_unless_wanted(order, pending, pool)
            raise
        except pending_delegations.PrefixHeldError:
            await self._restore(pool, record)
            raise

    async def _discard(self, order: OrderScope, pending: Delegation, pool: BoundPool, record: NetBoxRecord) -> None:
        """Delete a record that came late, in a pool that the order has left.

        Raises `StateChangedError` where another attempt has left our pool: then the record is the subscriber's.
        """
        async with self._database.tenant(order.tenant) as connection:
            now = await pending_delegations.by_key(connection, pending.key)
        if now is None or (now.state, now.pool_id) != (State.PENDING, pending.pool_id):
            raise StateChangedError(f"another attempt has gone on with {pending}")
        await require_netbox(self._netbox, pool).delete(record.id)

    async def _remove_unless_wanted(self, order: OrderScope, pending: Delegation, pool: BoundPool) -> None:
        """After the order was fenced, delete the record that this attempt has created, which no delegation will use.

        That is so where the delegation was revoked before it got a prefix. Else another attempt, or another order, has
        found the record or will find it: the prefix is in use, or in quarantine.
        """
        async with self._database.tenant(order.tenant) as connection:
            now = await pending_delegations.by_key(connection, pending.key)
        if now is None or now.state is not State.REVOKED or now.prefix is not None:
            return
        netbox = require_netbox(self._netbox, pool)
        with suppress(NetBoxError):  # its pending removal looks for the record once more, later
            if record := await find_record(netbox, pool, pending.key, None):
                await netbox.delete(record.id)

    async def _restore(self, pool: BoundPool, record: NetBoxRecord) -> None:
        """Make the record, of a prefix that NetBox has given away a second time, that of the prefix's holder."""
        async with self._database.platform() as connection:
            delegation = await pending_delegations.holder(connection, pool, record)
        if delegation is None:
            return
        netbox = require_netbox(self._netbox, pool)
        there = await find_record(netbox, pool, delegation.key, delegation.netbox_id)
        if there is not None and (there.prefix, there.vrf_id) == (record.prefix, record.vrf_id):
            if there.id != record.id:
                await netbox.delete(record.id)
            return  # another attempt was faster
        if there is not None:  # another user of NetBox has moved the holder's record
            await netbox.delete(there.id)
        await netbox.update(record.id, Stamp.of(delegation))
        async with self._database.platform() as connection:
            await pending_delegations.relink(connection, delegation, record)

    @asynccontextmanager
    async def _failing(self, order: OrderScope, pending: Delegation) -> AsyncIterator[None]:
        """Move the delegation to FAILED, with the reason, after an error that a retry cannot fix.

        A fenced order changes nothing: it came too late.
        """
        try:
            yield
        except OrderFencedError:
            raise
        except NonRetryableError as failure:
            async with order.transaction() as connection:
                now = await pending_delegations.by_key(connection, pending.key)
                if now is not None and now.state is State.PENDING:
                    await transition(connection, now, State.FAILED, order_id=order.order_id, reason=str(failure))
            raise

    async def _pool(self, order: OrderScope, delegation: Delegation) -> BoundPool:
        async with self._database.tenant(order.tenant) as connection:
            return (await bound_pools(connection, [delegation]))[delegation.pool_id]
