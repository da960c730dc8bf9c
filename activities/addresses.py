"""Steps on addresses: allocated and released in IPAM, activated and revoked together with RADIUS."""

from collections.abc import Iterable, Sequence

from activities.base import Activities, beyond_database, done, skipped, step, taken, undone, warned
from activities.direct_addresses import DirectAddresses
from activities.messages import StepContext, StepReport
from activities.reply_items import ReplyItems, address_items, as_written
from activities.sessions import Sessions
from ipam.allocation import Allocation, Quarantine, allocate, release
from ipam.delegations import Delegation, held_by, revoked_by, transition
from ipam.lifecycle import State
from ipam.matching import must_match
from ipam.models import Addressing, Purpose
from ipam.netbox import NetBox
from ipam.netbox.delegated.block_acquisition import make_room
from ipam.netbox.delegated.blocks import NoBlockError
from lastmile.db import Database, TenantConnection
from lastmile.fields.durations import duration
from lastmile.radius import accounts
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.sessions import open_sessions
from lastmile.radius.vrf import VrfAttribute
from lastmile.telemetry.metrics import ALLOCATION, REVOCATION

__all__ = ["FACTS", "AddressActivities", "chosen_by_netbox"]

FACTS = {
    Purpose.IPV6_PD: "ipv6_prefix",
    Purpose.IPV6_FRAMED: "ipv6_framed_prefix",
    Purpose.IPV6_ADDRESS: "ipv6_address",
    Purpose.IPV4: "ipv4_address",
}

# What no RADIUS and no session has heard of yet.
NEVER_ANNOUNCED = frozenset({State.PENDING, State.ALLOCATED, State.FAILED})


class AddressActivities(Activities):
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
        self._direct = DirectAddresses(database, netbox)

    @step
    async def allocate_ip_address(self, ref: StepContext, addressing: Addressing) -> StepReport:
        needs = addressing.needs()
        try:
            found = await self._allocated(ref, addressing)
        except NoBlockError as full:
            beyond_database("take a block of prefixes out of NetBox")
            more = await make_room(self._database, self._direct.netbox(full.pools[0]), full.pools)
            found = await self._allocated(ref, addressing, more_blocks=more)
        if not needs:
            return skipped("the order asks for no address")
        given = [
            await self._direct.complete(ref, one, need) if one.delegation.state is State.PENDING else one.delegation
            for one, need in zip(found, needs, strict=True)
        ]
        if _of_ipv6(given):
            ALLOCATION.labels(ref.tenant).observe(taken())
        return done(**_facts(given))

    async def _allocated(
        self, ref: StepContext, addressing: Addressing, *, more_blocks: bool = True
    ) -> list[Allocation]:
        async with self._order(ref) as connection:
            await must_match(connection, ref.subscriber_ref, addressing)
            found = [
                await allocate(
                    connection,
                    tenant=ref.tenant,
                    subscriber_ref=ref.subscriber_ref,
                    order_id=ref.order_id,
                    need=need,
                    more_blocks=more_blocks,
                )
                for need in addressing.needs()
            ]
            if any(one.delegation.state is State.PENDING for one in found):
                beyond_database("have NetBox choose the prefix")
            return found

    @step
    async def release_ip_address(self, ref: StepContext) -> StepReport:
        async with self._order(ref) as connection:
            held = await self._of_order(connection, ref)
            # An earlier attempt whose reply was lost has released it already.
            given_back = held or await revoked_by(connection, ref.subscriber_ref, ref.order_id)
            for delegation in held:
                if ref.undo and delegation.state in NEVER_ANNOUNCED:
                    # There is no session to end on the way.
                    delegation = await _to_revoking(connection, ref, delegation)
                    delegation = await _move(connection, ref, delegation, State.REVOKED)
                await release(connection, delegation, self._quarantine)
            if in_netbox := chosen_by_netbox(given_back):
                beyond_database("release the prefix in NetBox")
        problems = await self._direct.take_back(ref, in_netbox) if in_netbox else []
        if problems:
            return warned("; ".join(problems), **({} if ref.undo else _facts(given_back)))
        if ref.undo:
            return undone(bool(given_back))
        return done(**_facts(given_back)) if given_back else skipped("the subscriber holds no address")

    @step
    async def activate_ipv6_lifecycle(self, ref: StepContext) -> StepReport:
        user = accounts.username(ref.tenant, ref.subscriber_ref)
        async with self._order(ref) as connection:
            # A deprovision that was abandoned had blocked the account: the line is wanted again.
            await accounts.unblock_account(connection, user)
            held = await held_by(connection, ref.subscriber_ref)
            active = [
                await _move(connection, ref, delegation, State.ACTIVE)
                if delegation.state is State.ALLOCATED
                else delegation
                for delegation in held
                if delegation.state in (State.ALLOCATED, State.ACTIVE)
            ]
            if not active:
                return skipped("the subscriber holds no address")
            await self._reply_items.write(connection, user, active)
            sessions = await open_sessions(connection, user)
            news = any(delegation.created_by_order == ref.order_id for delegation in active)
            in_netbox = chosen_by_netbox(active)
            if news and (sessions or in_netbox):
                beyond_database("tell the live sessions, and NetBox")
        if not news:
            return done()
        problems = await self._sessions.announce(sessions, address_items(active))
        problems += await self._direct.tell_active(ref, in_netbox)
        return warned("; ".join(problems)) if problems else done()

    @step
    async def revoke_ipv6_lifecycle(self, ref: StepContext) -> StepReport:
        user = accounts.username(ref.tenant, ref.subscriber_ref)
        async with self._order(ref) as connection:
            held = await self._of_order(connection, ref)
            # An undo leaves to the release what was never announced to anybody.
            over = {State.REVOKED, *NEVER_ANNOUNCED} if ref.undo else {State.REVOKED}
            announced = [d for d in held if d.state not in over]
            if ref.undo and not announced:
                return undone(any(d.state is State.REVOKED for d in held))
            beyond_database("end the sessions")
            for delegation in announced:
                await _to_revoking(connection, ref, delegation)
            await self._reply_items.remove(connection, user, held)
            await accounts.block_account(connection, user, ref.order_id if ref.undo else None)
        problems = await self._sessions.disconnect(ref.tenant, user)
        async with self._order(ref) as connection:
            for delegation in await self._of_order(connection, ref):
                if delegation.state is State.REVOKING:
                    await _move(connection, ref, delegation, State.REVOKED, disconnect_confirmed=not problems)
            held = await self._of_order(connection, ref)
        if _of_ipv6(announced):
            REVOCATION.labels(ref.tenant).observe(taken())
        unconfirmed = [str(d.prefix) for d in held if d.disconnect_confirmed is False and d.prefix is not None]
        if unconfirmed:
            problems.append(
                f"{', '.join(unconfirmed)} stays in quarantine for {duration(self._quarantine.unconfirmed)}"
            )
        if problems:
            return warned("; ".join(problems))
        return undone(True) if ref.undo else done()

    async def _of_order(self, connection: TenantConnection, ref: StepContext) -> list[Delegation]:
        """What the step works on: all that the subscriber holds, or, in an undo, what this order gave it."""
        held = await held_by(connection, ref.subscriber_ref)
        return [d for d in held if not ref.undo or d.created_by_order == ref.order_id]


async def _move(
    connection: TenantConnection,
    ref: StepContext,
    delegation: Delegation,
    after: State,
    *,
    disconnect_confirmed: bool | None = None,
) -> Delegation:
    return await transition(
        connection,
        delegation,
        after,
        order_id=ref.order_id,
        reason="undone" if ref.undo else "ordered",
        disconnect_confirmed=disconnect_confirmed,
    )


async def _to_revoking(connection: TenantConnection, ref: StepContext, delegation: Delegation) -> Delegation:
    """From wherever it is; one whose prefix NetBox has not chosen yet has failed, before it is taken down."""
    if delegation.state is State.PENDING:
        delegation = await _move(connection, ref, delegation, State.FAILED)
    if delegation.state is not State.REVOKING:
        delegation = await _move(connection, ref, delegation, State.REVOKING)
    return delegation


def chosen_by_netbox(delegations: Iterable[Delegation]) -> list[Delegation]:
    """Those whose prefixes NetBox chooses."""
    return [delegation for delegation in delegations if delegation.slot is None]


def _of_ipv6(delegations: Iterable[Delegation]) -> bool:
    """Whether there is one among them."""
    return any(delegation.purpose is not Purpose.IPV4 for delegation in delegations)


def _facts(delegations: Sequence[Delegation]) -> dict[str, str]:
    """Return the facts of the order's result: the prefixes, and their VRF unless it is the default VRF."""
    facts = {FACTS[purpose]: written for purpose, written in as_written(delegations)}
    vrfs = {delegation.vrf for delegation in delegations if delegation.vrf and delegation.prefix is not None}
    return facts | ({"vrf": ", ".join(sorted(vrfs))} if vrfs else {})
