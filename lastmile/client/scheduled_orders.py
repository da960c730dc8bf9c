"""Scheduled orders: each is a one-shot Temporal Schedule, which operators can see, move and delete.

At its time the Schedule starts a `ScheduledStart`, which starts the order as soon as the subscriber is free.
"""

from collections.abc import AsyncIterator, Iterable
from copy import copy
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleListDescription,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.errors import NotScheduledError, OrderIdReusedError
from lastmile.contract import AnyOrder, Operation, Urgency, schedule_id
from lastmile.contract.operations import OPERATIONS
from lastmile.encryption.keys import DecryptionError
from workflows.search_attributes import OPERATION, TENANT
from workflows.start_options import memo, priority, search_attributes, summary

__all__ = ["ScheduledOrder", "ScheduledOrders", "describe_unreadable"]

_NAMED = 5
"""The orders that `describe_unreadable` names."""

# After an outage an order starts late, and is not lost.
LATEST_START = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class ScheduledOrder:
    """An order that a Schedule holds until its time."""

    schedule: str
    """The Schedule's id in Temporal."""
    tenant: str
    order_id: str
    subscriber_ref: str
    """Empty where it cannot be read."""
    operation: str
    at: datetime
    """The start time, in UTC."""
    paused: bool = False
    """An operator paused the Schedule in the Temporal UI. The order does not start until they resume it."""
    unreadable: str = ""
    """Why the subscriber cannot be read: this process lacks the order's encryption key."""

    def as_json(self) -> dict[str, Any]:
        """Return the order as JSON. Fields that an order's result also has are named alike."""
        return {"status": "scheduled", **asdict(self), "at": self.at.isoformat()}


def describe_unreadable(orders: Iterable[ScheduledOrder]) -> str:
    """Say in one line which of the orders have a subscriber that cannot be read, and why; empty if there is none."""
    unreadable = [order for order in orders if order.unreadable]
    if not unreadable:
        return ""
    named = ", ".join(order.order_id for order in unreadable[:_NAMED]) + (", …" if len(unreadable) > _NAMED else "")
    reasons = " ".join(dict.fromkeys(order.unreadable for order in unreadable))
    return f"Scheduled orders whose subscriber cannot be read: {named}. {reasons}"


class ScheduledOrders:
    """The scheduled orders, on a client with Lastmile's data converter."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    async def hold(self, order: AnyOrder) -> ScheduledOrder | None:
        """Hold the order until its `not_before`. Return None where that time is not ahead: start the order then.

        The same order again changes nothing, also where an operator has moved it. Raises `OrderIdReusedError` where
        a Schedule holds an order of this id with other content.
        """
        if order.not_before is None:
            return None
        if order.not_before <= datetime.now(UTC):
            return await self._held(order)
        at = _whole_seconds(order.not_before)
        try:
            handle = await self._client.create_schedule(
                schedule_id(order.tenant, order.order_id),
                self._schedule(order, at),
                memo=_memo(order),
                search_attributes=search_attributes(order),
            )
        except ScheduleAlreadyRunningError:
            return await self._held(order)
        await _begin_if_missed(handle)
        return await _scheduled(await handle.describe(), at)

    async def waiting(self, tenant: str | None = None) -> AsyncIterator[ScheduledOrder]:
        """Yield all scheduled orders, or those of one tenant, in no order. Temporal lists a new one after a moment.

        An order whose encryption key this process lacks is `unreadable`: its subscriber is unknown.
        """
        query = f"{OPERATION.name} IS NOT NULL" if tenant is None else f'{TENANT.name} = "{tenant}"'
        async for found in await self._client.list_schedules(query):
            if found.info and found.info.next_action_times:
                yield await _scheduled(found, found.info.next_action_times[0])

    async def of_subscriber(self, tenant: str, subscriber_ref: str) -> list[ScheduledOrder]:
        """Return the scheduled orders of a subscriber by time, and those that are `unreadable`.

        Temporal reads all scheduled orders of the tenant.
        """
        found = [order async for order in self.waiting(tenant) if order.subscriber_ref in (subscriber_ref, "")]
        return sorted(found, key=lambda order: order.at)

    async def next_start(self, tenant: str, order_id: str) -> datetime | None:
        """Return when the order's Schedule starts it; None where its time has come.

        Raises `NotScheduledError` where there is no such Schedule: it was deleted, or its time came days ago.
        """
        found = await self._describe(tenant, order_id)
        return found.info.next_action_times[0] if found.info.next_action_times else None

    async def move(self, tenant: str, order_id: str, at: datetime) -> ScheduledOrder:
        """Change the start time of the order. Raises `NotScheduledError`."""
        handle, _ = await self._waiting(tenant, order_id)
        moment = _whole_seconds(at)

        def moved(found: ScheduleUpdateInput) -> ScheduleUpdate:
            state = replace(found.description.schedule.state, limited_actions=True, remaining_actions=1)
            return ScheduleUpdate(replace(found.description.schedule, spec=_once(moment), state=state))

        await handle.update(moved)
        await _begin_if_missed(handle)
        return await _scheduled(await handle.describe(), moment)

    async def set_urgency(self, tenant: str, order_id: str, urgency: Urgency) -> ScheduledOrder:
        """Change the urgency of the order. Raises `NotScheduledError`."""
        handle, found = await self._waiting(tenant, order_id)

        async def changed(read: ScheduleUpdateInput) -> ScheduleUpdate:
            action = copy(read.description.schedule.action)
            assert isinstance(action, ScheduleActionStartWorkflow)
            (operation,) = await self._client.data_converter.decode(action.args[:1], [Operation])
            model = OPERATIONS[operation].model
            (order,) = await self._client.data_converter.decode(action.args[1:], [model])
            order = order.model_copy(update={"urgency": urgency})
            action.args, action.priority = [operation, order], priority(order)
            return ScheduleUpdate(replace(read.description.schedule, action=action))

        await handle.update(changed)
        return await _scheduled(found, found.info.next_action_times[0])

    async def cancel(self, tenant: str, order_id: str) -> None:
        """Delete the Schedule and the order with it. The order id is free again. Raises `NotScheduledError`."""
        handle, _ = await self._waiting(tenant, order_id)
        await handle.delete()

    async def _held(self, order: AnyOrder) -> ScheduledOrder | None:
        """Return the order that the Schedule of this id holds; None without a Schedule, or once its time has come."""
        try:
            _, found = await self._waiting(order.tenant, order.order_id)
        except NotScheduledError:
            return None
        if await found.memo_value("digest", default="") != order.digest:
            raise OrderIdReusedError(
                f"Order {order.order_id} is scheduled with other content. Send each order with its own id."
            )
        return await _scheduled(found, found.info.next_action_times[0])

    async def _waiting(self, tenant: str, order_id: str) -> tuple[ScheduleHandle, ScheduleDescription]:
        found = await self._describe(tenant, order_id)
        # Temporal keeps a Schedule for days after its last run.
        if not found.info.next_action_times:
            raise NotScheduledError(f"Order {order_id} of tenant {tenant} is no longer scheduled: its time has come.")
        return self._client.get_schedule_handle(found.id), found

    async def _describe(self, tenant: str, order_id: str) -> ScheduleDescription:
        try:
            return await self._client.get_schedule_handle(schedule_id(tenant, order_id)).describe()
        except RPCError as failure:
            if failure.status is not RPCStatusCode.NOT_FOUND:
                raise
            raise NotScheduledError(f"No order {order_id} of tenant {tenant} is scheduled.") from None

    def _schedule(self, order: AnyOrder, at: datetime) -> Schedule:
        start = ScheduleActionStartWorkflow(
            "ScheduledStart",
            args=[order.operation, order],
            id=schedule_id(order.tenant, order.order_id),
            task_queue=self._task_queue,
            typed_search_attributes=search_attributes(order),
            memo=_memo(order),
            static_summary=f"start: {summary(order)}",
            priority=priority(order),
        )
        return Schedule(
            action=start,
            spec=_once(at),
            policy=SchedulePolicy(catchup_window=LATEST_START),
            state=ScheduleState(limited_actions=True, remaining_actions=1, note=summary(order)),
        )


def _memo(order: AnyOrder) -> dict[str, Any]:
    """Return the memo of the Schedule and of its run: it also says whose personal data the order has."""
    whose = {"subscriber_ref": order.subscriber_ref, "customer_ref": order.customer_ref or ""}
    return memo(order) | whose


def _whole_seconds(moment: datetime) -> datetime:
    """Round up to whole seconds, in which Schedules count: an order must not start before its time."""
    return (moment.astimezone(UTC) + timedelta(microseconds=999_999)).replace(microsecond=0)


def _once(at: datetime) -> ScheduleSpec:
    return ScheduleSpec(
        calendars=[
            ScheduleCalendarSpec(
                year=[ScheduleRange(at.year)],
                month=[ScheduleRange(at.month)],
                day_of_month=[ScheduleRange(at.day)],
                hour=[ScheduleRange(at.hour)],
                minute=[ScheduleRange(at.minute)],
                second=[ScheduleRange(at.second)],
            )
        ]
    )


async def _begin_if_missed(handle: ScheduleHandle) -> None:
    """Start the order now if its time passed while the Schedule was created: the Schedule would never start it."""
    info = (await handle.describe()).info
    if not info.next_action_times and not info.num_actions:
        await handle.trigger()


async def _scheduled(found: ScheduleDescription | ScheduleListDescription, at: datetime) -> ScheduledOrder:
    attributes = found.typed_search_attributes
    subscriber, unreadable = "", ""
    try:
        subscriber = await found.memo_value("subscriber_ref")
    except DecryptionError as failure:
        unreadable = str(failure)
    return ScheduledOrder(
        schedule=found.id,
        tenant=attributes[TENANT],
        order_id=found.id.removeprefix(schedule_id(attributes[TENANT], "")),
        subscriber_ref=subscriber,
        operation=attributes[OPERATION],
        at=at,
        paused=found.schedule.state.paused if found.schedule else False,
        unreadable=unreadable,
    )
