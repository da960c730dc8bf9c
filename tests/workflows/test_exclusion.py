"""One operation on a subscriber at a time, one content for each order id, and orders that no model validated."""

import asyncio

import asyncpg
import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities.maintenance.messages import Stuck
from lastmile.client.orders import AlreadyRunningError, Lastmile, OrderIdReusedError
from lastmile.contract import ResultStatus, RunStatus
from lastmile.contract.addressing import Addressing
from lastmile.settings import Settings
from tests.support.faults import Faults, Gate, alone
from tests.support.orders import Orders
from workflows.search_attributes import OPERATION, TENANT

# Seconds until a test fails that would otherwise wait for ever.
PATIENCE = 60


async def test_second_operation_is_refused_and_names_the_running_one(
    lastmile: Lastmile, orders: Orders, faults: Faults
) -> None:
    gate = faults.before["create_customer"] = Gate()
    run = await lastmile.start(orders.provision("O-1"))
    await gate.reached.wait()

    with pytest.raises(AlreadyRunningError) as refusal:
        await lastmile.start(orders.deprovision("O-2"))
    with pytest.raises(AlreadyRunningError, match="for order O-1"):
        await lastmile.start(orders.provision("O-3"))

    assert str(refusal.value) == (
        f"Provision of subscriber {orders.ref} is already running, for order O-1 "
        f"(run {run.handle.run_id}). Wait for it, or cancel it."
    )
    gate.open()
    assert (await run.result()).status is ResultStatus.COMPLETED


async def test_same_order_from_many_callers_is_one_run(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    gate = faults.before["create_customer"] = Gate()
    runs = await asyncio.gather(*(lastmile.start(orders.provision()) for _ in range(8)))
    gate.open()

    results = await asyncio.gather(*(run.result() for run in runs))

    assert len({run.handle.run_id for run in runs}) == 1
    assert all(result == results[0] for result in results)
    assert faults.ran["create_customer"] == 1


async def test_run_under_another_workflow_id_is_refused(
    temporal_client: Client,
    settings: Settings,
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    faults: Faults,
) -> None:
    gate = Gate()
    faults.before["create_billing_service"] = alone(gate)
    run = await lastmile.start(orders.provision("O-1"))
    await gate.reached.wait()

    for started in ("Provision", "FinishRevocation"):
        order = orders.provision("O-2")
        stuck = Stuck(tenant=order.tenant, subscriber_ref=order.subscriber_ref)
        handle = await temporal_client.start_workflow(
            started,
            order if started == "Provision" else stuck,
            id=f"by-hand-{orders.ref}",
            task_queue=settings.task_queue,
        )
        with pytest.raises(WorkflowFailureError) as failure:
            await asyncio.wait_for(handle.result(), PATIENCE)
        assert isinstance(failure.value.cause, ApplicationError)
        assert failure.value.cause.type == "WrongWorkflowId"
        assert f"Start it under subscriber/acme/{orders.ref}" in str(failure.value.cause.message)

    assert [row["order_id"] for row in await owner.fetch("SELECT order_id FROM orders")] == ["O-1"]
    gate.open()
    assert (await run.result()).status is ResultStatus.COMPLETED


async def test_running_order_id_with_other_content_is_refused(
    lastmile: Lastmile, orders: Orders, faults: Faults
) -> None:
    gate = faults.before["create_customer"] = Gate()
    run = await lastmile.start(orders.provision())
    with pytest.raises(OrderIdReusedError, match="Order O-1 is running with other content"):
        await lastmile.start(orders.provision(addressing=Addressing(ipv6_pd_size=60)))
    gate.open()
    await run.result()


async def test_concurrent_orders_for_one_device_complete_once(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """Two subscribers order the same ONU: one gets it, and the other is refused."""
    line = orders.provision().line
    sent = [orders.provision(f"O-{nth}", nth, line=line) for nth in (1, 2)]

    results = await asyncio.gather(*(lastmile.execute(order) for order in sent))

    assert sorted(result.status for result in results) == ["completed", "rolled_back"]
    assert await owner.fetchval("SELECT count(*) FROM network_profiles") == 1
    assert await owner.fetchval("SELECT count(*) FROM customers") == 1


async def test_concurrent_orders_get_distinct_prefixes(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    results = await asyncio.gather(*(lastmile.execute(orders.provision(f"O-{n}", n)) for n in range(1, 13)))

    assert {result.status for result in results} == {ResultStatus.COMPLETED}
    assert len({result.created.ipv6_prefix for result in results}) == 12
    assert await owner.fetchval("SELECT count(*) FROM customers") == 1


async def test_progress_of_a_running_and_of_an_ended_order(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    assert await lastmile.progress("acme", orders.ref) is None
    gate = Gate()
    faults.before["create_billing_service"] = alone(gate)
    run = await lastmile.start(orders.provision())
    await gate.reached.wait()

    progress = await lastmile.progress("acme", orders.ref)
    gate.open()
    result = await run.result()
    ended = await lastmile.progress("acme", orders.ref)

    assert progress is not None
    assert (progress.status, progress.step) == (RunStatus.RUNNING, "create_billing_service")
    assert [step.outcome for step in progress.steps].count(None) == 1
    assert ended is not None
    assert (ended.status, ended.step, ended.result) == (RunStatus.ENDED, None, result)


@pytest.mark.parametrize("workflow", ["Provision", "Deprovision"])
@pytest.mark.parametrize("order", [{"tenant": "acme"}, "an order", None, {"tenant": "acme", "order_id": "a/b"}])
async def test_invalid_order_fails_its_run_with_the_reason(
    temporal_client: Client, settings: Settings, lastmile: Lastmile, orders: Orders, workflow: str, order: object
) -> None:
    """A client without the models can send such an order. Otherwise Temporal would retry the workflow task for ever."""
    handle = await temporal_client.start_workflow(
        workflow, order, id=f"raw-{orders.ref}", task_queue=settings.task_queue
    )

    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), PATIENCE)

    assert isinstance(failure.value.cause, ApplicationError)
    assert "order" in str(failure.value.cause.message) or "validation error" in str(failure.value.cause.message)


async def test_order_without_an_argument_fails_its_run(
    temporal_client: Client, settings: Settings, lastmile: Lastmile, orders: Orders
) -> None:
    handle = await temporal_client.start_workflow("Provision", id=f"raw-{orders.ref}", task_queue=settings.task_queue)
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(handle.result(), PATIENCE)


async def test_order_in_plain_json_completes(
    temporal_client: Client, settings: Settings, lastmile: Lastmile, orders: Orders
) -> None:
    """The order has no model and no search attributes. The run sets the search attributes itself."""
    order = orders.provision()
    handle = await temporal_client.start_workflow(
        "Provision", order.model_dump(mode="json"), id=order.workflow_id, task_queue=settings.task_queue
    )

    assert (await handle.result())["status"] == "completed"
    description = await handle.describe()
    assert description.typed_search_attributes.get(TENANT) == "acme"
    assert description.typed_search_attributes.get(OPERATION) == "provision"
