"""What orders would do, by doing it: the steps' own functions, in a transaction that is rolled back.

So each order is seen after those before it in the file: an address that they take is taken. The transaction
holds the locks of everything that the orders touch, which is why it is not for files of many thousands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text

from ipam.allocation import allocate
from ipam.delegations import Delegation, held_by
from ipam.matching import must_match
from lastmile.contract import AnyOrder, DeprovisionSubscriber, ProvisionSubscriber
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.db import Database, TenantConnection
from lastmile.devices import records as devices
from lastmile.errors import NonRetryableError
from lastmile.fields.phrases import format_time, in_vrf
from lastmile.radius import accounts
from lastmile.services.line_matching import check_line
from lastmile.services.order_files.reader import NumberedOrder
from lastmile.subscribers import billing, orders, records
from lastmile.subscribers.tables import orders as order_table

__all__ = ["OrderPlan", "StepPlan", "dry_run"]

# The platform's role could not stand in for the tenants: it sees more than any of them.
_ENTER_TENANT = text("SELECT set_config('lastmile.tenant', :tenant, true)")

_GOOD = (orders.OrderStatus.COMPLETED, orders.OrderStatus.DEGRADED)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What a step would do: `create`, `reuse`, `remove`, `skip`, or `refuse`, where nothing of the order would stay."""

    step: str
    action: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """What an order would do, as far as it would get."""

    numbered: NumberedOrder
    steps: list[StepPlan]

    @property
    def refused(self) -> bool:
        return self.steps[-1].action == "refuse"

    def as_json(self) -> dict[str, Any]:
        order = self.numbered.order
        return {
            "line": self.numbered.line,
            "tenant": order.tenant,
            "order_id": order.order_id,
            "subscriber_ref": order.subscriber_ref,
            "would": "be_refused" if self.refused else "be_carried_out",
            "steps": [{"step": s.step, "action": s.action, "detail": s.detail} for s in self.steps],
        }


async def dry_run(database: Database, numbered: Sequence[NumberedOrder]) -> list[OrderPlan]:
    """A plan for each order, in the order of the file. Nothing is written."""
    plans: dict[tuple[str, str], OrderPlan] = {}
    said = []
    async with database.tenant("") as connection, connection.begin_nested() as everything:
        for one in numbered:
            key = (one.order.tenant, one.order.order_id)
            if before := plans.get(key):
                said.append(_again(before, one))
            else:
                said.append(plans.setdefault(key, await _plan(connection, one)))
        await everything.rollback()
    return said


def _again(before: OrderPlan, numbered: NumberedOrder) -> OrderPlan:
    action = "refuse" if before.refused else "reuse"
    return OrderPlan(numbered, [StepPlan("open_order", action, f"the same order as on line {before.numbered.line}")])


async def _plan(connection: TenantConnection, numbered: NumberedOrder) -> OrderPlan:
    rehearsal = _Rehearsal(connection, numbered.order)
    await connection.execute(_ENTER_TENANT, {"tenant": numbered.order.tenant})
    try:
        async with connection.begin_nested():
            await rehearsal.run()
    except NonRetryableError as why:
        # What the order did before is undone, here as in its workflow.
        rehearsal.steps.append(StepPlan(rehearsal.step, "refuse", str(why)))
    return OrderPlan(numbered, rehearsal.steps)


class _Hopeless(NonRetryableError):
    """The order would not get as far as its first step."""


class _Rehearsal:
    """One order's steps."""

    def __init__(self, connection: TenantConnection, order: AnyOrder) -> None:
        self.steps: list[StepPlan] = []
        self.step = "open_order"
        self._connection = connection
        self._given = order

    @property
    def _order(self) -> ProvisionSubscriber:
        assert isinstance(self._given, ProvisionSubscriber)
        return self._given

    async def run(self) -> None:
        """Raises `NonRetryableError` in the step that `step` names."""
        if not await self._open():
            return
        if isinstance(self._given, DeprovisionSubscriber):
            await self._terminate()
            return
        await self._records()
        await self._account()
        await self._addresses()
        await self._devices()
        await self._billing()
        await orders.close_order(self._connection, self._order.order_id, orders.OrderStatus.COMPLETED, {})

    async def _open(self) -> bool:
        """Whether the order would take any step at all."""
        order = self._given
        known = (
            await self._connection.execute(
                select(order_table).where(order_table.c.subscriber_ref == order.subscriber_ref)
            )
        ).all()
        opening = await orders.open_order(
            self._connection,
            order.tenant,
            order.order_id,
            order.operation,
            order.subscriber_ref,
            order.digest,
            "dry run",
        )
        same = next((row for row in known if row.order_id == order.order_id), None)
        if opening.result is not None and same is not None:
            ended = f"this order {same.status.replace('_', ' ')} on {format_time(same.finished_at)}"
            if same.status not in _GOOD:
                raise _Hopeless(f"{ended}, and an id belongs to one order: send it with a new order_id")
            outdated = f"; {opening.outdated}" if opening.outdated else ""
            self._note("reuse", f"{ended}: same result{outdated}")
            return False
        if same is not None:
            self._note(
                "reuse", f"this order is running since {format_time(same.created_at)}: its result would be awaited"
            )
            return False
        if order.requested_line is not None:
            await check_line(self._connection, order.tenant, order.subscriber_ref, order.order_id, order.requested_line)
        if busy := next((row for row in known if row.finished_at is None), None):
            raise _Hopeless(
                f"{busy.operation} order {busy.order_id} of this subscriber is running since "
                f"{format_time(busy.created_at)}: wait for it"
            )
        return True

    async def _terminate(self) -> None:
        """What a deprovision order would end. Later lines of the file do not see that."""
        ref = self._given.subscriber_ref
        self.step = "verify_subscriber"
        subscriber = await records.current_subscriber(self._connection, ref)
        self._note("reuse", f"subscriber {ref}, since order {subscriber.created_by_order}")
        self.step = "release_ip_address"
        for held in await held_by(self._connection, ref):
            self._note("remove", _bare(held))
        self.step = "archive_subscriber"
        self._note("remove", f"the line of subscriber {ref}")

    async def _records(self) -> None:
        order, connection = self._order, self._connection
        self.step = "create_customer"
        customer = await records.create_customer(connection, order.tenant, order.order_id, order.customer)
        self._made(
            customer.created_by_order,
            f"customer {order.customer.ref}",
            *records.customer_notes(customer, order.customer),
        )
        self.step = "create_subscriber"
        subscriber = await records.create_subscriber(
            connection, order.tenant, order.order_id, order.subscriber_ref, order.customer.ref
        )
        self._made(subscriber.created_by_order, f"subscriber {order.subscriber_ref}")
        self.step = "create_network_profile"
        profile = await records.create_network_profile(connection, order.tenant, order.order_id, subscriber, order.line)
        self._made(profile.created_by_order, f"{order.line.connection_type} line")

    async def _account(self) -> None:
        order = self._order
        self.step = "create_radius_account"
        creator = await accounts.create_account(
            self._connection,
            order.tenant,
            order.order_id,
            order.subscriber_ref,
            plan=order.plan.name,
            download_kbps=order.plan.download_kbps,
            upload_kbps=order.plan.upload_kbps,
        )
        self._made(creator, accounts.username(order.tenant, order.subscriber_ref))

    async def _addresses(self) -> None:
        order = self._order
        self.step = "allocate_ip_address"
        await must_match(self._connection, order.subscriber_ref, order.addressing)
        for need in order.addressing.needs():
            allocation = await allocate(
                self._connection,
                tenant=order.tenant,
                subscriber_ref=order.subscriber_ref,
                order_id=order.order_id,
                need=need,
            )
            found = allocation.delegation
            self._made(found.created_by_order, f"{ADDRESS_FIELDS[need.purpose]} {_bare(found)}")
        held = await held_by(self._connection, order.subscriber_ref)
        if not order.addressing.needs():
            self._note("skip", "the order asks for no address")
        self.step = "activate_ipv6_lifecycle"
        if held:
            self._note("create", f"RADIUS reply items for {', '.join(map(_bare, held))}")
        else:
            self._note("skip", "the subscriber holds no address")

    async def _devices(self) -> None:
        line = self._order.line
        wanted = (
            ("activate_onu", devices.DeviceKind.ONU, line.onu_serial),
            ("configure_cpe", devices.DeviceKind.CPE, line.cpe_mac),
        )
        for self.step, kind, identity in wanted:
            if identity is None:
                self._note("skip", f"the line has no {kind.upper()}")
                continue
            found = await devices.find(self._connection, self._order.subscriber_ref, kind)
            same = found is not None and found.wanted and found.identity == identity
            self._made(found.created_by_order if same and found else self._order.order_id, f"{identity} in service")

    async def _billing(self) -> None:
        order = self._order
        self.step = "create_billing_service"
        subscriber = await records.current_subscriber(self._connection, order.subscriber_ref)
        service = await billing.create_service(
            self._connection, order.tenant, order.order_id, subscriber, order.subscriber_ref, order.plan
        )
        self._made(service.created_by_order, f"service on plan {order.plan.name}")

    def _made(self, creator: str, what: str, *notes: str) -> None:
        if creator == self._given.order_id:
            self._note("create", what)
        else:
            self._note("reuse", "; ".join([f"{what}, since order {creator}", *notes]))

    def _note(self, action: str, detail: str) -> None:
        self.steps.append(StepPlan(self.step, action, detail))


def _bare(delegation: Delegation) -> str:
    """As people write it: one address has no length."""
    prefix = delegation.prefix
    vrf = in_vrf(delegation.vrf)
    if prefix is None:
        return f"{delegation}{vrf}"
    return f"{prefix.network_address if prefix.num_addresses == 1 else prefix}{vrf}"
