"""Scheduled orders, which a Schedule holds until their time, and the priorities of orders."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from lastmile.client.orders import Lastmile, NotScheduledError, OrderIdReusedError, OrderRun, ScheduledOrder
from lastmile.contract import ResultStatus, Urgency
from lastmile.contract.addressing import Addressing
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.faults import Fault, Faults, Gate, alone, broken, once
from tests.support.orders import Orders, dispatched, until_refused
from workflows.search_attributes import OPERATION, TENANT

# Long enough to create a Schedule meanwhile.
AHEAD = timedelta(seconds=1)
NEXT_YEAR = datetime.now(UTC).replace(microsecond=0) + timedelta(days=300)


def soon() -> datetime:
    return datetime.now(UTC) + AHEAD


async def listed(lastmile: Lastmile, order_id: str) -> ScheduledOrder:
    """Return the order from the list, which shows a new Schedule after a moment."""
    while True:
        async for order in lastmile.scheduled.waiting("acme"):
            if order.order_id == order_id:
                return order
        await asyncio.sleep(0.02)  # a list cannot be waited for


async def test_scheduled_order_starts_at_its_time(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    gate = faults.before["create_customer"] = Gate()
    order = orders.provision(orders.ref, not_before=soon())

    held = await lastmile.scheduled.hold(order)

    assert held is not None
    await gate.reached.wait()
    run = await lastmile.start(order)
    description = await run.handle.describe()
    assert order.not_before is not None
    assert description.start_time >= held.at >= order.not_before
    assert (description.id, description.workflow_type) == (order.workflow_id, "Provision")
    assert description.typed_search_attributes.get(TENANT) == "acme"
    gate.open()
    assert (await run.result()).status is ResultStatus.COMPLETED
    assert faults.ran["create_customer"] == 1


async def test_start_with_a_future_date_schedules_the_order(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection
) -> None:
    order = orders.provision(orders.ref, not_before=NEXT_YEAR)

    run = await lastmile.start(order)

    assert run.scheduled is not None
    assert run.scheduled.at == NEXT_YEAR
    result = await run.result()
    assert (result.status, result.order_id) == (ResultStatus.SCHEDULED, order.order_id)
    assert str(run.scheduled.schedule) in result.reason
    assert await lastmile.execute(order) == result
    assert faults.ran["open_order"] == 0
    assert await owner.fetchval("SELECT count(*) FROM orders") == 0
    await lastmile.scheduled.cancel("acme", order.order_id)


async def test_scheduled_order_waits_for_the_running_one(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    gate = Gate()
    faults.before["create_customer"] = alone(gate)
    first = await lastmile.start(orders.provision("O-1"))
    await gate.reached.wait()
    held = await lastmile.scheduled.hold(orders.deprovision(orders.ref, not_before=soon()))
    assert held is not None
    started = await dispatched(lastmile, held)

    await until_refused(started)
    details = (await started.query("__temporal_workflow_metadata")).current_details
    assert details == f"Waiting: another operation on {orders.ref} is running."
    gate.open()
    assert (await first.result()).status is ResultStatus.COMPLETED
    await started.result()

    result = await (await lastmile.start(orders.deprovision(orders.ref))).result()
    assert (result.order_id, result.status) == (orders.ref, ResultStatus.COMPLETED)


async def test_repeated_scheduled_order_is_one_schedule(lastmile: Lastmile, orders: Orders) -> None:
    order = orders.provision(orders.ref, not_before=NEXT_YEAR)
    held = await lastmile.scheduled.hold(order)
    later = order.model_copy(update={"not_before": NEXT_YEAR + timedelta(days=1), "urgency": Urgency.URGENT})

    assert held == await lastmile.scheduled.hold(order) == await lastmile.scheduled.hold(later)
    assert held is not None
    assert held.at == NEXT_YEAR
    with pytest.raises(OrderIdReusedError, match=f"Order {orders.ref} is scheduled with other content"):
        await lastmile.scheduled.hold(order.model_copy(update={"addressing": Addressing(ipv6_pd_size=60)}))
    await lastmile.scheduled.cancel("acme", orders.ref)


async def test_scheduled_order_shows_its_data_in_temporal(lastmile: Lastmile, orders: Orders) -> None:
    held = await lastmile.scheduled.hold(orders.deprovision(orders.ref, not_before=NEXT_YEAR))
    assert held == ScheduledOrder(
        f"order/acme/{orders.ref}", "acme", orders.ref, orders.ref, "deprovision", NEXT_YEAR, paused=False
    )

    schedule = lastmile.client.get_schedule_handle(held.schedule)
    description = await schedule.describe()

    assert description.schedule.state.note == f"deprovision {orders.ref}, order {orders.ref}"
    found = description.typed_search_attributes
    assert [found.get(TENANT), found.get(OPERATION)] == ["acme", "deprovision"]
    assert await listed(lastmile, orders.ref) == held
    assert not [order async for order in lastmile.scheduled.waiting("nobody")]
    await schedule.pause()
    while True:
        if (await listed(lastmile, orders.ref)).paused:
            break
        await asyncio.sleep(0.02)  # a list cannot be waited for
    await lastmile.scheduled.cancel("acme", orders.ref)


async def test_moved_order_starts_at_its_new_time(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    gate = faults.before["create_customer"] = Gate()
    order = orders.provision(orders.ref, not_before=NEXT_YEAR)
    await lastmile.scheduled.hold(order)

    moved = await lastmile.scheduled.move("acme", orders.ref, soon())

    await gate.reached.wait()
    run = await lastmile.start(order)
    assert (await run.handle.describe()).start_time >= moved.at
    gate.open()
    await run.result()
    with pytest.raises(NotScheduledError, match="its time has come"):
        await lastmile.scheduled.move("acme", orders.ref, NEXT_YEAR)


async def test_scheduled_order_with_another_urgency_starts_with_it(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    order = orders.provision(orders.ref, not_before=NEXT_YEAR)
    await lastmile.scheduled.hold(order)

    await lastmile.scheduled.set_urgency("acme", orders.ref, Urgency.URGENT)

    assert (await listed(lastmile, orders.ref)).at == NEXT_YEAR
    held = await lastmile.scheduled.move("acme", orders.ref, datetime.now(UTC))
    await (await dispatched(lastmile, held)).result()
    assert (await lastmile.execute(order)).status is ResultStatus.COMPLETED
    run = await lastmile.client.get_workflow_handle(order.workflow_id).describe()
    assert run.raw_description.workflow_execution_info.priority.priority_key == 1
    assert await owner.fetchval("SELECT urgency FROM orders") == "urgent"
    with pytest.raises(NotScheduledError, match="its time has come"):
        await lastmile.scheduled.set_urgency("acme", orders.ref, Urgency.BULK)


async def test_moved_order_sent_again_keeps_its_time(lastmile: Lastmile, orders: Orders) -> None:
    order = orders.provision(orders.ref, not_before=NEXT_YEAR)
    await lastmile.scheduled.hold(order)

    past = order.model_copy(update={"not_before": datetime.now(UTC) - AHEAD})
    held = await lastmile.scheduled.hold(past)

    assert held is not None
    assert held.at == NEXT_YEAR
    await lastmile.scheduled.cancel("acme", orders.ref)
    assert await lastmile.scheduled.hold(past) is None


async def test_order_moved_into_the_past_starts_at_once(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    """Temporal itself would never start a Schedule with a past time."""
    order = orders.provision(orders.ref, not_before=NEXT_YEAR)
    await lastmile.scheduled.hold(order)

    held = await lastmile.scheduled.move("acme", orders.ref, datetime.now(UTC) - timedelta(hours=1))

    await (await dispatched(lastmile, held)).result()
    assert (await lastmile.execute(order)).status is ResultStatus.COMPLETED
    assert faults.ran["create_customer"] == 1


async def test_deleted_scheduled_order_frees_its_id(lastmile: Lastmile, orders: Orders) -> None:
    order = orders.provision(orders.ref, not_before=NEXT_YEAR)
    await lastmile.scheduled.hold(order)

    await lastmile.scheduled.cancel("acme", orders.ref)

    for refused in (lastmile.scheduled.cancel("acme", orders.ref), lastmile.scheduled.move("acme", "O-0", NEXT_YEAR)):
        with pytest.raises(NotScheduledError, match=r"No order \S+ of tenant acme is scheduled"):
            await refused
    other = order.model_copy(update={"addressing": Addressing(ipv6_pd_size=60)})
    assert await lastmile.scheduled.hold(other) is not None
    await lastmile.scheduled.cancel("acme", orders.ref)


async def test_order_without_a_future_date_is_not_scheduled(lastmile: Lastmile, orders: Orders) -> None:
    assert await lastmile.scheduled.hold(orders.provision(orders.ref)) is None
    assert await lastmile.scheduled.hold(orders.provision(orders.ref, not_before=datetime.now(UTC) - AHEAD)) is None


async def test_scheduled_order_without_a_worker_starts_late(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    orders: Orders,
    owner: asyncpg.Connection,
) -> None:
    lastmile = Lastmile(client, task_queue=settings.task_queue)
    order = orders.provision(orders.ref, not_before=soon())
    held = await lastmile.scheduled.hold(order)
    assert held is not None
    started = await dispatched(lastmile, held)
    assert await owner.fetchval("SELECT count(*) FROM orders") == 0

    async with build_worker(client, settings, database, authorization):
        await started.result()
        assert (await lastmile.execute(order)).status is ResultStatus.COMPLETED


async def test_digest_ignores_date_urgency_and_requester(orders: Orders) -> None:
    order = orders.provision()

    assert order.digest == orders.provision(not_before=NEXT_YEAR).digest
    assert order.digest == orders.provision(urgency="urgent", requested_by="crm").digest
    assert order.digest != orders.provision(addressing=Addressing(ipv6_pd_size=60)).digest


async def all_wait(client: Client, task_queue: str, number: int) -> None:
    """Wait until `number` runs wait for a worker: the server counts them with a delay."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        report_stats=True,
    )
    while True:
        described = await client.workflow_service.describe_task_queue(request)
        if described.stats.approximate_backlog_count >= number:
            return
        await asyncio.sleep(0.05)


async def test_urgent_order_and_another_tenant_pass_a_backlog(
    client: Client, settings: Settings, database: Database, authorization: DynamicAuthorization, orders: Orders
) -> None:
    """An import of acme waits for a worker. An order of another tenant and an urgent order follow."""
    lastmile = Lastmile(client, task_queue=settings.task_queue)
    bulk = [orders.provision(f"B-{n}", n, urgency=Urgency.BULK) for n in range(1, 25)]
    other = orders.provision("B-30", 30, tenant="other", urgency=Urgency.BULK)
    urgent = orders.provision("U-31", 31, urgency=Urgency.URGENT)
    runs = [await lastmile.start(order) for order in (*bulk, other, urgent)]
    await all_wait(client, settings.task_queue, len(runs))

    narrow = settings.model_copy(update={"max_concurrent_activities": 1, "max_concurrent_workflow_tasks": 2})
    async with build_worker(client, narrow, database, authorization):
        results = [await run.result() for run in runs]

    assert {result.status for result in results} == {ResultStatus.COMPLETED}
    ended = {run.order.order_id: (await run.handle.describe()).close_time for run in runs}
    in_order = sorted(ended, key=lambda id: ended[id] or NEXT_YEAR)
    # Two orders run at a time, so the first may end second.
    assert in_order.index(urgent.order_id) <= 2
    # In the order of arrival it would come after the whole import.
    assert in_order.index(other.order_id) <= 5


async def waits_for_its_worker(run: OrderRun) -> None:
    """Wait until a workflow task of the run is in the sticky queue of the worker that caches the run."""
    while True:
        async for event in run.handle.fetch_history_events():
            queue = event.workflow_task_scheduled_event_attributes.task_queue
            if queue.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY:
                return
        await asyncio.sleep(0.02)  # a history cannot be waited for


async def test_urgent_order_passes_begun_orders_at_its_later_workflow_tasks(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    orders: Orders,
    faults: Faults,
) -> None:
    """All end a step that runs alone while two other orders hold both workflow task slots."""
    begun = [orders.provision(f"N-{n}", n) for n in range(1, 6)]
    begun.append(orders.provision("U-6", 6, urgency=Urgency.URGENT))
    gates = {order.order_id: Gate() for order in begun}
    faults.before |= {(order_id, "configure_cpe"): alone(gate) for order_id, gate in gates.items()}
    # One slot polls the task queue, and one the sticky queue. So H-10 blocks in its first workflow task, and H-11 in a
    # later one, since its first step fails once.
    holders = {"H-10": ("create_customer", Gate()), "H-11": ("create_subscriber", Gate())}
    faults.before |= {(order_id, step): gate for order_id, (step, gate) in holders.items()}
    faults.before["H-11", "create_customer"] = once(broken)
    closing: list[str] = []
    for order in begun:
        faults.before[order.order_id, "close_order"] = _noted(closing, order.order_id)
    lastmile = Lastmile(client, task_queue=settings.task_queue)

    async with build_worker(
        client, settings.model_copy(update={"max_concurrent_workflow_tasks": 2}), database, authorization
    ):
        runs = [await lastmile.start(order) for order in begun]
        await asyncio.gather(*(gate.reached.wait() for gate in gates.values()))
        for nth, (order_id, (_, holds)) in reversed(list(enumerate(holders.items(), start=10))):
            runs.append(await lastmile.start(orders.provision(order_id, nth)))
            await holds.reached.wait()
        for run in runs[: len(begun)]:
            gates[run.order.order_id].open()
            await waits_for_its_worker(run)
        for _, holds in holders.values():
            holds.open()
        results = [await run.result() for run in runs]

    assert {result.status for result in results} == {ResultStatus.COMPLETED}
    # In the order of arrival the urgent order would be the last. Two slots: one other order can begin beside it.
    assert closing.index("U-6") <= 1


def _noted(seen: list[str], order_id: str) -> Fault:
    async def note() -> None:
        seen.append(order_id)

    return note
