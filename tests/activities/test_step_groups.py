"""Groups of steps: one transaction, one look at the fence, each step by its own name."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.accounts import AccountActivities
from activities.addresses import AddressActivities
from activities.base import Activities, step
from activities.devices import DeviceActivities
from activities.group_messages import GroupReport, OpenedOrder, OrderOpening, StepCall, StepFailure, StepGroup
from activities.messages import BEYOND_DATABASE, StepContext, StepReport
from activities.order_record import OrderClosing, OrderRecord
from activities.orders import OrderActivities
from activities.records import RecordActivities
from activities.step_groups import StepGroups
from ipam.allocation import Quarantine
from lastmile.contract import OrderResult, ProvisionSubscriber, ResultStatus
from lastmile.contract.operations import PROVISION
from lastmile.contract.results import StepOutcome
from lastmile.db import Database
from lastmile.devices.controllers import DONE, LineDevice, Outcome
from lastmile.devices.routing import Controllers
from lastmile.radius.dynauth import DynamicAuthorization
from tests.support.orders import Orders, what_is_there

QUARANTINE = Quarantine(timedelta(hours=1), timedelta(hours=2))
STEPS = PROVISION.steps
FIRST, LAST = STEPS[:-1], STEPS[-1]
UNDOS = [StepCall(step=step.name, activity=step.undo or "") for step in reversed(STEPS)]


@pytest.fixture
def order() -> ProvisionSubscriber:
    return Orders("S-1").provision("O-1")


class Controller:
    """An OLT controller that does nothing."""

    forgets = False

    async def check(self) -> str:
        return "none"

    async def switch_on(self, device: LineDevice) -> Outcome:
        return DONE

    async def switch_off(self, device: LineDevice) -> Outcome:
        return DONE


Make = Callable[..., OrderActivities]


@pytest.fixture
async def make(database: Database) -> AsyncIterator[Make]:
    """Make the order activities with the real steps, or with some steps that have no controller or fail."""
    async with DynamicAuthorization(timeout=1, tries=1, in_flight=1) as authorization:

        def made(onu: Controller | None = None, **others: Any) -> OrderActivities:
            parts = (
                RecordActivities(database),
                AccountActivities(database, authorization, QUARANTINE.unconfirmed),
                AddressActivities(database, authorization, QUARANTINE),
                DeviceActivities(database, Controllers.everywhere(onu)),
            )
            steps = {name: getattr(part, name) for part in parts for name in dir(part) if not name.startswith("_")}
            return OrderActivities(database, StepGroups(steps | others))

        yield made


def ref(order_id: str = "O-1", *, undo: bool = False) -> StepContext:
    return StepContext(tenant="acme", order_id=order_id, subscriber_ref="S-1", undo=undo, requested_by="crm")


def group(order: ProvisionSubscriber, *steps: Any, closing: OrderClosing | None = None) -> StepGroup:
    calls = [StepCall(step=step.name, activity=step.name, content=list(step.content(order))) for step in steps]
    return StepGroup(calls=calls, closing=closing)


async def run(activity: Any, *arguments: Any) -> Any:
    return await ActivityEnvironment().run(activity, *arguments)


async def opened(
    orders: OrderActivities, order: ProvisionSubscriber, *steps: Any, started: datetime | None = None
) -> OpenedOrder:
    opening = OrderOpening(
        operation="provision", digest=order.digest, group=group(order, *steps), run_started_at=started
    )
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, workflow_run_id=f"run of {order.order_id} at {started}")
    reply: OpenedOrder = await environment.run(orders.open_order, ref(order.order_id), opening)
    return reply


def completion(order: ProvisionSubscriber) -> OrderClosing:
    """Return the closing of an order whose steps are done."""
    return OrderClosing(record=OrderRecord.of(order, [step.name for step in STEPS]), status=ResultStatus.COMPLETED)


async def finished(orders: OrderActivities, order: ProvisionSubscriber) -> GroupReport:
    """Run the last step, and close the order with it."""
    last = group(order, LAST, closing=completion(order))
    report: GroupReport = await run(orders.run_steps, ref(order.order_id), last)
    return report


async def assert_fails(kind: str, activity: Any, *arguments: Any) -> None:
    with pytest.raises(ApplicationError) as failure:
        await run(activity, *arguments)
    assert failure.value.type == kind


async def test_opening_with_steps_does_them_in_order_and_reports_each(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    reply = await opened(make(), order, *FIRST)

    assert reply.group is not None
    assert reply.group.failure is None
    assert [report.outcome for report in reply.group.steps] == [StepOutcome.DONE] * 6 + [StepOutcome.SKIPPED] * 2
    assert all(report.seconds is not None and report.started_at is not None for report in reply.group.steps)
    starts = [report.started_at for report in reply.group.steps]
    assert starts == sorted(starts)
    assert await owner.fetchval("SELECT state FROM delegations") == "active"
    assert await owner.fetchval("SELECT actor FROM audit_log WHERE record = 'subscribers'") == "crm"


async def test_group_uses_one_connection(make: Make, order: ProvisionSubscriber, database: Database) -> None:
    """A second one would not see what the group has written, and could wait for it for ever."""
    orders = make()
    async with AsyncExitStack() as others:
        for _ in range(database.engine.pool.size() - 1):  # type: ignore[attr-defined]  # of the pool class in use
            await others.enter_async_context(database.tenant("acme"))

        reply = await opened(orders, order, *FIRST)
        begun: GroupReport = await run(orders.begin_rollback, ref(undo=True), StepGroup(calls=UNDOS[-len(FIRST) :]))

    assert reply.group is not None
    assert begun.steps
    assert len(reply.group.steps) == len(FIRST)
    assert reply.group.failure is None


async def test_steps_of_a_group_become_visible_together(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    seen: list[int] = []

    async def look(_: StepContext) -> Any:
        seen.append(await owner.fetchval("SELECT count(*) FROM customers"))
        raise ApplicationError("seen", type="Seen")

    orders = make(activate_onu=look)
    reply = await opened(orders, order, *FIRST)

    assert reply.group is not None
    assert reply.group.failure == StepFailure(type="Seen", message="seen")
    assert (seen, len(reply.group.steps)) == ([0], 6)
    assert await owner.fetchval("SELECT count(*) FROM customers") == 1


async def test_failing_step_leaves_what_came_before_it_and_nothing_of_its_own(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection, database: Database
) -> None:
    class Failing(Activities):
        @step
        async def create_subscriber(self, context: StepContext, customer_ref: str) -> StepReport:
            async with self._order(context) as connection:
                await connection.exec_driver_sql("UPDATE customers SET name = 'half done'")
                await connection.exec_driver_sql("SELECT 1 / 0")
            raise AssertionError

    reply = await opened(make(create_subscriber=Failing(database).create_subscriber), order, *FIRST)

    assert reply.group is not None
    assert reply.group.failure is not None
    assert (len(reply.group.steps), reply.group.failure.type) == (1, "DBAPIError")
    assert await owner.fetchval("SELECT name FROM customers") == order.customer.name
    assert await owner.fetchval("SELECT count(*) FROM subscribers") == 0


async def test_step_that_needs_a_controller_ends_the_group_before_it(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    reply = await opened(make(onu=Controller()), order, *FIRST)

    assert reply.group is not None
    assert reply.group.failure is not None
    assert (len(reply.group.steps), reply.group.failure.type) == (6, BEYOND_DATABASE)
    assert await owner.fetchval("SELECT count(*) FROM devices") == 0


async def test_group_whose_reply_was_lost_changes_nothing_the_second_time(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    orders = make()
    await opened(orders, order, *FIRST)
    before = await what_is_there(owner)

    reply = await opened(orders, order, *FIRST)

    assert reply.group is not None
    assert len(reply.group.steps) == len(FIRST)
    assert await what_is_there(owner) == before


async def test_group_of_an_order_that_is_rolled_back_changes_nothing(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    orders = make()
    await opened(orders, order)
    await run(orders.begin_rollback, ref(undo=True), StepGroup())

    await assert_fails("OrderFencedError", orders.run_steps, ref(), group(order, *FIRST))
    await assert_fails("OrderFencedError", orders.run_steps, ref(), group(order, LAST, closing=completion(order)))

    assert await owner.fetchval("SELECT count(*) FROM customers") == 0
    assert await owner.fetchval("SELECT status FROM orders") == "rolling_back"


async def test_rollback_undoes_a_group_in_one_transaction(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    nothing = await what_is_there(owner)
    orders = make()
    await opened(orders, order, *FIRST[:5])

    begun: GroupReport = await run(orders.begin_rollback, ref(undo=True), StepGroup(calls=UNDOS))

    assert (len(begun.steps), begun.failure) == (len(STEPS), None)
    assert await what_is_there(owner) == nothing


async def test_second_order_waits_for_the_opening_of_the_first_and_takes_over(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    """The first run was terminated while its group was at work."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: StepContext) -> Any:
        reached.set()
        await go_on.wait()
        raise ApplicationError("too late", type="Late")

    first = asyncio.create_task(opened(make(activate_onu=slow), order, *FIRST))
    await reached.wait()
    second = asyncio.create_task(opened(make(), Orders("S-1").provision("O-2"), *FIRST))
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while not await owner.fetchval(waits):  # noqa: ASYNC110 -- there is no event to wait for
        await asyncio.sleep(0.02)
    go_on.set()

    await first
    reply = await second

    assert (reply.taken_over, reply.group) == (True, None)
    assert dict(await owner.fetch("SELECT order_id, status FROM orders")) == {"O-1": "superseded", "O-2": "running"}
    assert await owner.fetchval("SELECT created_by_order FROM subscribers") == "O-2"


@pytest.mark.parametrize("again", ["O-1", "O-2"])
@pytest.mark.parametrize("ended", [False, True])
async def test_late_opening_of_a_terminated_run_changes_nothing(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection, again: str, ended: bool
) -> None:
    """Its worker stood still while the next run of the subscriber opened its order, and perhaps ended it."""
    orders, now = make(), datetime.now(UTC)
    second = Orders("S-1").provision(again)
    await opened(orders, second, *FIRST, started=now)
    if ended:
        await finished(orders, second)
    before = await owner.fetch("SELECT * FROM orders"), await what_is_there(owner)

    with pytest.raises(ApplicationError, match="The run of order O-1 was terminated"):
        await opened(orders, order, *FIRST, started=now - timedelta(seconds=1))

    assert (await owner.fetch("SELECT * FROM orders"), await what_is_there(owner)) == before


async def test_second_attempt_to_begin_a_rollback_sets_the_fence_alone(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    """An undo that breaks the transaction must not prevent the fence."""
    orders = make()
    await opened(orders, order, *FIRST)
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=2)

    assert await environment.run(orders.begin_rollback, ref(undo=True), StepGroup(calls=UNDOS)) == GroupReport()

    assert await owner.fetchval("SELECT status FROM orders") == "rolling_back"
    assert await owner.fetchval("SELECT count(*) FROM subscribers") == 1


async def test_close_of_an_order_that_has_ended_returns_the_recorded_result(
    make: Make, order: ProvisionSubscriber
) -> None:
    orders = make()
    await opened(orders, order, *FIRST)
    ended = await finished(orders, order)

    abandoned = completion(order).model_copy(update={"status": ResultStatus.ABANDONED})
    assert await run(orders.close_order, ref(), abandoned) == ended.result


async def test_group_with_the_closing_runs_its_steps_and_closes_the_order(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    orders = make()
    await opened(orders, order, *FIRST)

    report = await finished(orders, order)

    result = report.result
    assert result is not None
    assert result.status is ResultStatus.COMPLETED
    assert (result.steps[-1].outcome, result.steps[-1].attempts) == (StepOutcome.DONE, 1)
    assert result.created.billing_service_id == str(await owner.fetchval("SELECT id FROM billing_services"))
    row = await owner.fetchrow("SELECT status, result FROM orders")
    assert (row["status"], OrderResult.model_validate_json(row["result"])) == ("completed", result)


async def test_warning_of_a_step_degrades_the_order_that_is_closed_with_it(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    async def warns(_: StepContext, plan: Any) -> StepReport:
        return StepReport(outcome=StepOutcome.WARNED, reason="half done")

    orders = make(**{LAST.name: warns})
    await opened(orders, order, *FIRST)

    report = await finished(orders, order)

    assert report.result is not None
    assert (report.result.status, report.result.warnings) == (ResultStatus.DEGRADED, [f"{LAST.name}: half done"])
    assert await owner.fetchval("SELECT status FROM orders") == "degraded"


async def test_closing_after_a_lost_reply_returns_the_recorded_result(make: Make, order: ProvisionSubscriber) -> None:
    orders = make()
    await opened(orders, order, *FIRST)
    first = await finished(orders, order)

    assert await finished(orders, order) == GroupReport(result=first.result)


async def test_rollback_after_a_lost_reply_returns_the_recorded_result(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    orders = make()
    await opened(orders, order, *FIRST[:5])
    undos = StepGroup(calls=UNDOS, closing=completion(order).model_copy(update={"status": ResultStatus.ROLLED_BACK}))
    first: GroupReport = await run(orders.begin_rollback, ref(undo=True), undos)
    before = await what_is_there(owner)

    assert first.result is not None
    assert await owner.fetchval("SELECT status FROM orders") == "rolled_back"
    assert await run(orders.run_steps, ref(undo=True), undos) == GroupReport(result=first.result)
    assert await run(orders.begin_rollback, ref(undo=True), undos) == GroupReport(result=first.result)
    assert await what_is_there(owner) == before


async def test_group_with_a_failing_step_leaves_the_order_open(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    async def fails(_: StepContext, plan: Any) -> Any:
        raise ApplicationError("refused", type="Refused", non_retryable=True)

    orders = make(**{LAST.name: fails})
    await opened(orders, order, *FIRST)

    report = await finished(orders, order)

    assert (report.failure, report.result) == (StepFailure(type="Refused", message="refused", final=True), None)
    assert await owner.fetchval("SELECT status FROM orders") == "running"


async def test_rollback_of_an_order_that_is_done_returns_its_result(
    make: Make, order: ProvisionSubscriber, owner: asyncpg.Connection
) -> None:
    """Every reply of the closing was lost."""
    orders = make()
    await opened(orders, order, *FIRST)
    ended = await finished(orders, order)
    before = await what_is_there(owner)

    begun: GroupReport = await run(orders.begin_rollback, ref(undo=True), StepGroup(calls=UNDOS))

    assert begun == GroupReport(result=ended.result)
    assert await what_is_there(owner) == before


async def test_empty_group_reports_nothing(make: Make, order: ProvisionSubscriber) -> None:
    orders = make()
    await opened(orders, order)

    assert await run(orders.run_steps, ref(), StepGroup()) == GroupReport()
