"""Steps that replace prefixes: allocate the new one, switch to it, wait for the overlap, and release the old one.

Hosts keep an address until the lifetimes that the CPE announced have run out. RFC 8978 describes what a flash
renumbering breaks; RFC 9096 limits the lifetimes of a CPE to 90 minutes. So both prefixes stay routed in the overlap.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from activities.addresses import address_facts
from activities.base import Activities, beyond_database, done, skipped, step, taken, undone, warned
from activities.messages import StepContext, StepReport
from ipam import replacement
from ipam.allocation import Quarantine
from ipam.allocators import build_allocator
from ipam.delegations import Delegation, held_by
from ipam.lifecycle import IN_SERVICE, State
from ipam.netbox import NetBox
from ipam.order_scope import OrderScope
from lastmile.contract.addressing import Addressing, Purpose
from lastmile.contract.suspension import SuspensionMode
from lastmile.db import Database, TenantConnection
from lastmile.fields.durations import format_duration
from lastmile.radius import accounts
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.sessions import find_open_sessions
from lastmile.radius.vrf import VrfAttribute
from lastmile.services.reply_items import ReplyItems, address_items
from lastmile.services.sessions import OpenSession, Sessions
from lastmile.subscribers.suspensions import read_suspension
from lastmile.telemetry.metrics import ALLOCATION, REVOCATION

__all__ = ["ReplacementActivities"]

LATE_LOGIN = timedelta(minutes=5)
"""A RADIUS server may have read the account before the switch, and record its Access-Accept after the switch."""


class ReplacementActivities(Activities):
    """The steps and undos that replace prefixes."""

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
    async def begin_replacement(self, ref: StepContext, target: Purpose | Addressing) -> StepReport:
        """Mark the prefixes that the order replaces: they stay in service, and others may be allocated beside them."""
        async with self._order(ref) as connection:
            replaced = await replacement.begin(connection, ref.subscriber_ref, ref.order_id, target)
        return done() if replaced else skipped("no address is to be replaced")

    @step
    async def cancel_replacement(self, ref: StepContext) -> StepReport:
        """Remove the marks of this order."""
        async with self._order(ref) as connection:
            return undone(await replacement.cancel(connection, ref.subscriber_ref, ref.order_id))

    @step
    async def allocate_replacement(self, ref: StepContext, purpose: Purpose, pool: str | None) -> StepReport:
        """Allocate a prefix beside the marked one, and report all addresses that the line will have."""
        order = self._scope(ref)
        async with order.transaction() as connection:
            need = await replacement.need_of(connection, ref.subscriber_ref, purpose, pool)
        (allocation,) = await self._allocator.allocate(order, need)
        async with order.transaction() as connection:
            held = await held_by(connection, ref.subscriber_ref)
        if purpose is not Purpose.IPV4:
            ALLOCATION.labels(ref.tenant).observe(taken())
        report = done(**address_facts([one for one in held if one.replaced_by_order is None]))
        if allocation.created or allocation.delegation.key.endswith(f"/{ref.order_id}"):
            return report
        note = f"the order goes on with {allocation.delegation}, which an order that ended halfway had allocated"
        return report.model_copy(update={"notes": [note]})

    @step
    async def switch_addresses(self, ref: StepContext, overlap_hours: int) -> StepReport:
        """Assign the new prefixes in RADIUS in place of the marked ones, and tell the live sessions.

        A session learns its new prefix by a CoA-Request (RFC 5176). Where a CoA-Request cannot say it, or the NAS
        refuses it, a Disconnect-Request makes the CPE log in again. The report says until when the overlap lasts.

        The new prefixes of a suspended line are suspended too. A blocked line has no overlap, since nobody uses it: the
        overlap would only hold up its resume.
        """
        order = self._scope(ref)
        async with order.transaction() as connection:
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            suspension = await read_suspension(connection, ref.subscriber_ref, ref.order_id)
            if suspension is not None and suspension.mode is SuspensionMode.BLOCK:
                overlap_hours = 0
            suspended = suspension is not None
            held = [one for one in await held_by(connection, ref.subscriber_ref) if one.replaced_by_order is None]
            allocated = [one for one in held if one.state is State.ALLOCATED]
            moved = [await _put_into_service(order, connection, one, suspended=suspended) for one in allocated]
            new = [*moved, *(one for one in held if one.state in IN_SERVICE)]
            replaced = await replacement.switch(
                connection, ref.subscriber_ref, ref.order_id, timedelta(hours=overlap_hours)
            )
            # Also what an order that ended halfway had allocated, or a first attempt of this order has moved.
            followed = {one.purpose for one in replaced}
            added = [
                one for one in new if one in moved or one.created_by_order == ref.order_id or one.purpose in followed
            ]
            if not added and not replaced:
                return skipped("the line has these addresses already")
            await self._reply_items.remove(connection, user, replaced)
            await self._reply_items.write(connection, user, new)
            sessions = await find_open_sessions(connection, user)
        beyond_database("tell the live sessions, and NetBox")
        problems = await self._tell(ref, user, sessions, added, replaced)
        problems += await self._allocator.report(order, added)
        report = warned("; ".join(problems)) if problems else done()
        until = max((one.replaced_until for one in replaced if one.replaced_until is not None), default=None)
        return report.model_copy(update={"waits_until": until if overlap_hours else None})

    async def _tell(
        self,
        ref: StepContext,
        user: str,
        sessions: Sequence[OpenSession],
        added: Sequence[Delegation],
        replaced: Sequence[Delegation],
    ) -> list[str]:
        """Tell the sessions the new addresses. Return the problems, as text."""
        if not sessions:
            return []
        gone = {one.purpose for one in replaced} - {one.purpose for one in added}
        if gone or await self._sessions.announce(sessions, address_items(added)):
            until = max((one.replaced_at for one in replaced if one.replaced_at is not None), default=None)
            if problems := await self._sessions.disconnect(ref.tenant, user, until=until):
                return [*problems, "the new addresses take effect at the next login"]
        async with self._order(ref) as connection:
            await replacement.confirm(connection, replaced)
        return []

    @step
    async def revoke_replaced_addresses(self, ref: StepContext) -> StepReport:
        """Revoke the prefixes that were replaced, and end the sessions that may still use them.

        Sessions that took the new prefix at the switch, or began after it with the new prefix, stay.
        """
        order = self._scope(ref, replaced=True)
        async with order.transaction() as connection:
            user = await accounts.find_username(connection, ref.tenant, ref.subscriber_ref)
            held = await order.held(connection)
            if not held:
                return skipped("no address was replaced")
            beyond_database("end the sessions")
            for one in held:
                if one.state is not State.REVOKED:
                    await order.begin_revoking(connection, one)
        problems = await self._sessions.disconnect(
            ref.tenant, user, until=max(map(_last_login, held)), using=[one.id for one in held]
        )
        async with order.transaction() as connection:
            for one in await order.held(connection):
                if one.state is State.REVOKING:
                    await order.move(connection, one, State.REVOKED, disconnect_confirmed=not problems)
        if any(one.purpose is not Purpose.IPV4 for one in held):
            REVOCATION.labels(ref.tenant).observe(taken())
        if not problems:
            return done()
        longer = f"the replaced address stays in quarantine for {format_duration(self._quarantine.unconfirmed)}"
        return warned("; ".join([*problems, longer]))

    @step
    async def release_replaced_addresses(self, ref: StepContext) -> StepReport:
        """Put the prefixes that were replaced into quarantine."""
        released = await self._allocator.release(self._scope(ref, replaced=True))
        if released.problems:
            return warned("; ".join(released.problems))
        return done() if released.delegations else skipped("no address was replaced")


async def _put_into_service(
    order: OrderScope, connection: TenantConnection, delegation: Delegation, *, suspended: bool
) -> Delegation:
    """Activate an allocated delegation, and suspend it where the line is suspended."""
    active = await order.move(connection, delegation, State.ACTIVE)
    return await order.move(connection, active, State.SUSPENDED) if suspended else active


def _last_login(replaced: Delegation) -> datetime:
    """Return when the last login can have been recorded that got the prefix."""
    assert replaced.replaced_at is not None
    return replaced.replaced_at + LATE_LOGIN
