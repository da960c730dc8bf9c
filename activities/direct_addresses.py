"""What the steps on addresses do in NetBox, between their transactions, for pools that NetBox chooses from.

No transaction is open while NetBox is asked, so an attempt can be overtaken there: by the undo, by an order that took
over, by a second attempt. What it finds afterwards decides. `ipam.netbox.direct.pending_removals` finds what is left.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial

from activities.base import Activities
from activities.messages import StepContext
from ipam.allocation import Allocation
from ipam.delegations import Delegation, StateChangedError, transition
from ipam.errors import DelegationMismatchError, PoolExhaustedError, PoolMovedError
from ipam.lifecycle import State
from ipam.models import Need
from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.binding import AllocationMode, BoundPool, OnRelease, bound_pools, find_record, stamp
from ipam.netbox.direct import allocator
from ipam.netbox.direct.pending_removals import remove_due
from ipam.netbox.errors import NetBoxError, NetBoxExhaustedError, NetBoxNotFoundError
from lastmile.db import Database
from lastmile.errors import NonRetryableError, OutageError
from lastmile.subscribers.errors import OrderFencedError

__all__ = ["DirectAddresses", "NoNetBoxError"]

# The daily cleanup removes what is left; a release should not take for ever.
REMOVALS_PER_RELEASE = 3
REMOVALS_WHEN_FULL = 20


class NoNetBoxError(OutageError):
    """A pool is kept in NetBox, and this worker does not know where that is. Another worker may."""


class DirectAddresses(Activities):
    """Not activities of their own; `netbox` is None where none is configured."""

    def __init__(self, database: Database, netbox: NetBox | None) -> None:
        super().__init__(database)
        self._configured = netbox

    async def complete(self, ref: StepContext, allocation: Allocation, need: Need) -> Delegation:
        """The pending delegation with the prefix that NetBox has chosen for it, now or in an earlier attempt.

        Raises `OrderFencedError`, `PoolExhaustedError`, `PoolMovedError`, `DelegationMismatchError` and `NetBoxError`.
        After those that a retry cannot fix the delegation is failed.
        """
        pending = allocation.delegation
        async with self._failing(ref, pending):
            while True:
                pool = await self._pool(ref, pending)
                if pool.length != need.length:
                    raise DelegationMismatchError(
                        f"{ref.subscriber_ref} waits for a /{pool.length}, not a /{need.length}: deprovision it first"
                    )
                try:
                    recorded = await self._obtain(ref, pending, pool, first=allocation.created)
                except NetBoxExhaustedError:
                    pending = await self._make_room(ref, pending, pool, need)
                except allocator.Elsewhere as late:
                    await self._discard(ref, pending, pool, late.recorded)
                else:
                    return await self._settle(ref, pending, pool, recorded)

    async def _obtain(self, ref: StepContext, pending: Delegation, pool: BoundPool, *, first: bool) -> NetBoxRecord:
        """As `direct.obtain`. Where the rest is full, out of a block: no pool changes hands while somebody waits for a
        prefix of it, and NetBox takes none out of a block by itself."""
        says = stamp(ref.tenant, pending, State.ALLOCATED)
        obtain = partial(allocator.obtain, self.netbox(pool), pool, says, length=pool.length, fits=pool.has)
        try:
            return await obtain(first=first)
        except NetBoxExhaustedError:
            async with self._database.tenant(ref.tenant) as connection:
                blocks = await allocator.block_ids(connection, pending)
            if not blocks:
                raise
        for block in blocks:
            with suppress(NetBoxExhaustedError, PoolMovedError):  # it is full, or has gone back meanwhile
                return await obtain(first=False, parent=block)
        return await obtain(first=False)

    async def _discard(self, ref: StepContext, pending: Delegation, pool: BoundPool, recorded: NetBoxRecord) -> None:
        """Delete what came late in a pool that the order has left. Raises `StateChangedError` where it is we who are
        late, and it is another attempt that has left our pool: then it is the subscriber's."""
        async with self._database.tenant(ref.tenant) as connection:
            now = await allocator.by_key(connection, pending.key)
        if now is None or (now.state, now.pool_id) != (State.PENDING, pending.pool_id):
            raise StateChangedError(f"another attempt has gone on with {pending}")
        await self.netbox(pool).delete(recorded.id)

    async def tell_active(self, ref: StepContext, delegations: Iterable[Delegation]) -> list[str]:
        """Show them as active in NetBox; what is not as it should be there, in words. Raises `NetBoxError`."""
        problems = []
        for delegation in delegations:
            pool = await self._pool(ref, delegation)
            if pool.netbox.mode is not AllocationMode.DIRECT:
                continue  # changed meanwhile: the outbox tells
            netbox = self.netbox(pool)
            if record := await find_record(netbox, pool, delegation.key, delegation.netbox_id):
                await self._show(ref, delegation, netbox, record)
            else:
                problems.append(
                    f"NetBox shows no record of {delegation} with this allocation's key: "
                    "`lastmile netbox reconcile --repair` makes it again"
                )
        return problems

    async def take_back(self, ref: StepContext, delegations: Iterable[Delegation]) -> list[str]:
        """Deprecate or delete in NetBox what was released; what is left alone there, in words. Raises `NetBoxError`."""
        problems = []
        for delegation in delegations:
            pool = await self._pool(ref, delegation)
            netbox = self.netbox(pool)
            record = await find_record(netbox, pool, delegation.key, delegation.netbox_id)
            if record is None:
                problems += await self._left_alone(netbox, delegation)
            elif delegation.prefix is None or pool.netbox.on_release is OnRelease.DELETE:
                await netbox.delete(record.id)
            else:
                with suppress(NetBoxNotFoundError):  # a person was faster
                    await netbox.update(record.id, stamp(ref.tenant, delegation, State.REVOKED))
        with suppress(NetBoxError):  # of others: their time will come
            await remove_due(self._database, netbox, most=REMOVALS_PER_RELEASE)
        return problems

    async def _show(self, ref: StepContext, delegation: Delegation, netbox: NetBox, record: NetBoxRecord) -> None:
        """Write the delegation's state, and again where that has changed meanwhile: we may be a late attempt."""
        now: Delegation | None = delegation
        shown = None
        while now is not None and now.state is not shown:
            await netbox.update(record.id, stamp(ref.tenant, now, now.state))
            shown = now.state
            async with self._database.tenant(ref.tenant) as connection:
                now = await allocator.by_key(connection, delegation.key)

    def netbox(self, pool: BoundPool) -> NetBox:
        """Where the pool is kept. Raises `NoNetBoxError`."""
        if self._configured is None:
            raise NoNetBoxError(f"pool {pool} is kept in NetBox, and this worker has no NETBOX_URL and NETBOX_TOKEN")
        return self._configured

    async def _pool(self, ref: StepContext, delegation: Delegation) -> BoundPool:
        async with self._database.tenant(ref.tenant) as connection:
            return (await bound_pools(connection, [delegation]))[delegation.pool_id]

    @asynccontextmanager
    async def _failing(self, ref: StepContext, pending: Delegation) -> AsyncIterator[None]:
        """What cannot be fixed leaves the delegation failed, with the reason; who came too late leaves it alone."""
        try:
            yield
        except OrderFencedError:
            raise
        except NonRetryableError as failure:
            async with self._order(ref) as connection:
                now = await allocator.by_key(connection, pending.key)
                if now is not None and now.state is State.PENDING:
                    await transition(connection, now, State.FAILED, order_id=ref.order_id, reason=str(failure))
            raise

    async def _make_room(self, ref: StepContext, pending: Delegation, pool: BoundPool, need: Need) -> Delegation:
        """After a full pool: the delegation, to try with again. Raises `PoolExhaustedError`."""
        if await remove_due(self._database, self.netbox(pool), most=REMOVALS_WHEN_FULL, pool=pool):
            return pending
        async with self._order(ref) as connection:
            moved = await allocator.next_pool(connection, pending, need)
        if moved is None:
            raise PoolExhaustedError(
                f"NetBox has no free /{pool.length} left in pool {pool}, nor has any other pool: "
                "add a pool, free space in NetBox, or wait for quarantine"
            )
        return moved

    async def _settle(
        self, ref: StepContext, pending: Delegation, pool: BoundPool, recorded: NetBoxRecord
    ) -> Delegation:
        try:
            async with self._order(ref) as connection:
                return await allocator.settle(connection, pending, recorded, order_id=ref.order_id)
        except OrderFencedError:
            await self._remove_unless_wanted(ref, pending, pool)
            raise
        except allocator.PrefixHeldError:
            await self._restore(pool, recorded)
            raise

    async def _remove_unless_wanted(self, ref: StepContext, pending: Delegation, pool: BoundPool) -> None:
        """We came too late. Where the delegation was taken back before it got a prefix, what we made in NetBox goes
        too. Else another attempt, or another order, has found that or will: it is in use, or rests."""
        async with self._database.tenant(ref.tenant) as connection:
            now = await allocator.by_key(connection, pending.key)
        if now is None or now.state is not State.REVOKED or now.prefix is not None:
            return
        with suppress(NetBoxError):  # it is looked for once more, later
            if record := await find_record(self.netbox(pool), pool, pending.key, None):
                await self.netbox(pool).delete(record.id)

    async def _restore(self, pool: BoundPool, recorded: NetBoxRecord) -> None:
        """Make the record that NetBox has given away a second time that of the one who holds the prefix."""
        async with self._database.platform() as connection:
            found = await allocator.holder(connection, pool, recorded)
        if found is None:
            return
        tenant, delegation = found
        there = await find_record(self.netbox(pool), pool, delegation.key, delegation.netbox_id)
        if there is not None and (there.prefix, there.vrf_id) == (recorded.prefix, recorded.vrf_id):
            if there.id != recorded.id:
                await self.netbox(pool).delete(recorded.id)
            return  # somebody was faster
        if there is not None:  # moved by a person
            await self.netbox(pool).delete(there.id)
        await self.netbox(pool).update(recorded.id, stamp(tenant, delegation, delegation.state))
        async with self._database.platform() as connection:
            await allocator.restored(connection, delegation, recorded)

    async def _left_alone(self, netbox: NetBox, delegation: Delegation) -> list[str]:
        if delegation.netbox_id is None or await netbox.get(delegation.netbox_id) is None:
            return []
        return [f"the record of {delegation} in NetBox does not carry our key any more, and was left as it is"]
