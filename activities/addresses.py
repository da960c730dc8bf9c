"""Steps on addresses: allocated and released in IPAM, activated and revoked together with RADIUS."""

from collections.abc import Iterable, Sequence

from activities.base import Activities, beyond_database, done, skipped, step, taken, undone, warned
from activities.messages import StepContext, StepReport
from ipam.allocation import Quarantine
from ipam.allocators import build_allocator
from ipam.delegations import Delegation, held_by
from ipam.lifecycle import IN_SERVICE, State
from ipam.netbox import NetBox
from ipam.netbox.errors import NetBoxError
from ipam.order_scope import NEVER_ANNOUNCED, OrderScope
from lastmile.contract.addressing import Addressing, Purpose
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.db import Database
from lastmile.fields.durations import format_duration
from lastmile.radius import accounts
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.sessions import find_open_sessions
from lastmile.radius.vrf import VrfAttribute
from lastmile.services.reply_items import ReplyItems, address_items, as_written
from lastmile.services.sessions import Sessions
from lastmile.subscribers import previous_values
from lastmile.telemetry.metrics import ALLOCATION, REVOCATION

__all__ = ["AddressActivities", "address_facts"]


class AddressActivities(Activities):
    """The steps and undos on the addresses of a subscriber."""

    def __init__(
        self,
        database: Database,
        authorization: DynamicAuthorization,
        quarantine: Quarantine,
        netbox: NetBox | None = None,
        *,
        vrf_attribute: VrfAttribute | None = None,
    ) -> None:
        super().__init__(database)
        self._reply_items = ReplyItems(vrf_attribute)
        self._sessions = Sessions(database, authorization, quarantine.unconfirmed)
        self._quarantine = quarantine
        self._allocator = build_allocator(database, quarantine, netbox)

    @step
    async def allocate_ip_address(self, ref: StepContext, addressing: Addressing) -> StepReport:
        """Allocate the prefixes and addresses that the order asks for."""
        order = self._scope(ref)
        allocations = await self._allocator.allocate(order, addressing)
        delegations = [allocation.delegation for allocation in allocations]
        if _of_ipv6(delegations):
            ALLOCATION.labels(ref.tenant).observe(taken())
        kept = await self._kept(order, addressing)
        if not allocations:
            return skipped("the order asks for no address", **address_facts(kept))
        return done(**address_facts([*delegations, *kept]))

    async def _kept(self, order: OrderScope, addressing: Addressing) -> list[Delegation]:
        """Return what the line has and keeps, since the order leaves it unchanged."""
        if not any(map(addressing.keeps, Purpose)):
            return []
        async with order.transaction() as connection:
            held = await held_by(connection, order.subscriber_ref)
        return [one for one in held if addressing.keeps(one.purpose) and one.replaced_by_order is None]

    @step
    async def release_ip_address(self, ref: StepContext) -> StepReport:
        """Put the subscriber's prefixes into quarantine; in an undo, those that this order allocated."""
        released = await self._allocator.release(self._scope(ref))
        facts = {} if ref.undo else address_facts(released.delegations)
        if released.problems:
            return warned("; ".join(released.problems), **facts)
        if ref.undo:
            return undone(bool(released.delegations))
        return done(**facts) if released.delegations else skipped("the subscriber holds no address")

    @step
    async def activate_ipv6_lifecycle(self, ref: StepContext) -> StepReport:
        """Activate what was allocated: RADIUS reply items, a CoA-Request to live sessions, the record in NetBox."""
        order = self._scope(ref)
        async with order.transaction() as connection:
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            # An abandoned deprovision has blocked the account, and this order puts the line into service again.
            await accounts.unblock_account(connection, user)
            held = await held_by(connection, ref.subscriber_ref)
            active = [
                await order.move(connection, delegation, State.ACTIVE)
                if delegation.state is State.ALLOCATED
                else delegation
                for delegation in held
                if delegation.state in (State.ALLOCATED, State.ACTIVE) and delegation.replaced_at is None
            ]
            if not active:
                return skipped("the subscriber holds no address")
            await self._reply_items.write(connection, user, active)
            sessions = [] if ref.adopts else await find_open_sessions(connection, user)
            created_here = any(delegation.created_by_order == ref.order_id for delegation in active)
            if created_here and (sessions or any(delegation.chosen_by_netbox for delegation in active)):
                beyond_database("tell the live sessions, and NetBox")
        if not created_here:
            return done()
        problems = await self._sessions.announce(sessions, address_items(active))
        problems += await self._allocator.report(order, active)
        return warned("; ".join(problems)) if problems else done()

    @step
    async def suspend_addresses(self, ref: StepContext) -> StepReport:
        """Suspend what is active. RADIUS keeps the reply items, since the line keeps its addresses."""
        if ref.undo:
            return await self._restore(ref, "resume_addresses", State.SUSPENDED)
        return await self._exchange(ref, "suspend_addresses", State.ACTIVE, State.SUSPENDED)

    @step
    async def resume_addresses(self, ref: StepContext) -> StepReport:
        """Activate what is suspended."""
        if ref.undo:
            return await self._restore(ref, "suspend_addresses", State.ACTIVE)
        return await self._exchange(ref, "resume_addresses", State.SUSPENDED, State.ACTIVE)

    async def _exchange(self, ref: StepContext, step_name: str, before: State, after: State) -> StepReport:
        """Move every delegation that is in `before` to `after`, and keep the moved delegations for the undo."""
        order = self._scope(ref)
        async with order.transaction() as connection:
            held = await held_by(connection, ref.subscriber_ref)
            moved = [await order.move(connection, one, after) for one in held if one.state is before]
            if moved:
                value = {"delegations": [delegation.id for delegation in moved]}
                await self._keep(connection, ref, step_name, value)
            # An earlier attempt may have moved them, and stopped before it told NetBox.
            there = [*moved, *(one for one in held if one.state is after)]
            if any(delegation.chosen_by_netbox for delegation in there):
                beyond_database("tell NetBox")
        if not there:
            return skipped("the subscriber holds no such address")
        problems = await self._show_in_netbox(order, there)
        return warned("; ".join(problems)) if problems else done()

    async def _restore(self, ref: StepContext, step_name: str, state: State) -> StepReport:
        """Undo `_exchange`: move the delegations of the step back."""
        order = self._scope(ref)
        async with order.transaction() as connection:
            kept = await previous_values.find(connection, ref.order_id, step_name)
            if kept is None:
                return undone(False)
            held = await held_by(connection, ref.subscriber_ref)
            mine = [one for one in held if one.id in kept["delegations"] and one.state in IN_SERVICE]
            there = [one if one.state is state else await order.move(connection, one, state) for one in mine]
            if any(delegation.chosen_by_netbox for delegation in there):
                beyond_database("tell NetBox")
            else:
                await previous_values.take(connection, ref.order_id, step_name)
                return undone(True)
        problems = await self._show_in_netbox(order, there)
        async with order.transaction() as connection:
            await previous_values.take(connection, ref.order_id, step_name)
        return warned("; ".join(problems)) if problems else undone(True)

    async def _show_in_netbox(self, order: OrderScope, delegations: Sequence[Delegation]) -> list[str]:
        """Show the states in NetBox; return what is wrong there. The line does not wait for NetBox."""
        try:
            return await self._allocator.report(order, delegations)
        except NetBoxError as failure:
            return [f"NetBox does not show the new state, `lastmile netbox reconcile --repair` writes it: {failure}"]

    @step
    async def revoke_ipv6_lifecycle(self, ref: StepContext) -> StepReport:
        """Revoke what is active: block the account, remove the reply items, disconnect the sessions."""
        order = self._scope(ref)
        async with order.transaction() as connection:
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            held = await order.held(connection)
            # An undo leaves it to the release to revoke what was never announced.
            over = {State.REVOKED, *NEVER_ANNOUNCED} if ref.undo else {State.REVOKED}
            announced = [d for d in held if d.state not in over]
            if ref.undo and not announced:
                return undone(any(d.state is State.REVOKED for d in held))
            beyond_database("end the sessions")
            for delegation in announced:
                await order.begin_revoking(connection, delegation)
            await self._reply_items.remove(connection, user, held)
            await accounts.block_account(connection, user, ref.order_id if ref.undo else None)
        if ref.adopts:
            problems = ["the line was adopted: its sessions go on"]
        else:
            problems = await self._sessions.disconnect(ref.tenant, user)
        async with order.transaction() as connection:
            for delegation in await order.held(connection):
                if delegation.state is State.REVOKING:
                    await order.move(connection, delegation, State.REVOKED, disconnect_confirmed=not problems)
            held = await order.held(connection)
        if _of_ipv6(announced):
            REVOCATION.labels(ref.tenant).observe(taken())
        unconfirmed = [str(d.prefix) for d in held if d.disconnect_confirmed is False and d.prefix is not None]
        if unconfirmed:
            problems.append(
                f"{', '.join(unconfirmed)} stays in quarantine for {format_duration(self._quarantine.unconfirmed)}"
            )
        if problems:
            return warned("; ".join(problems))
        return undone(True) if ref.undo else done()


def _of_ipv6(delegations: Iterable[Delegation]) -> bool:
    """Return whether one of the delegations is of IPv6."""
    return any(delegation.purpose is not Purpose.IPV4 for delegation in delegations)


def address_facts(delegations: Sequence[Delegation]) -> dict[str, str]:
    """Return the facts of the order's result: the prefixes, and their VRF unless it is the default VRF."""
    facts = {ADDRESS_FIELDS[purpose]: written for purpose, written in as_written(delegations)}
    vrfs = {delegation.vrf for delegation in delegations if delegation.vrf and delegation.prefix is not None}
    return facts | ({"vrf": ", ".join(sorted(vrfs))} if vrfs else {})
