"""A cancel at every moment: before the pivot the order is rolled back, after it the cancel has no effect."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError

from lastmile.client.orders import Lastmile, NotRunningError, OrderRun
from lastmile.contract import AnyOrder, ResultStatus, operations
from lastmile.contract.steps import pivot_of
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.faults import Faults, Gate, refused
from tests.support.orders import Orders, outcomes, what_is_there
from workflows.saga import LATE_CANCEL

PROVISION = [step.name for step in operations.PROVISION.steps]
BEFORE_PIVOT = [step.name for step in operations.DEPROVISION.steps[: pivot_of(operations.DEPROVISION.steps)]]
AFTER_PIVOT = [step.name for step in operations.DEPROVISION.steps[len(BEFORE_PIVOT) :]]


async def temporal_status(run: OrderRun) -> WorkflowExecutionStatus | None:
    return (await run.handle.describe()).status


async def cancelled_at(gate: Gate, lastmile: Lastmile, order: AnyOrder) -> OrderRun:
    """Start the order, cancel it once it has reached the gate, and open the gate."""
    run = await lastmile.start(order)
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    return run


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", PROVISION)
async def test_cancel_during_a_step_rolls_back(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, step: str, when: str
) -> None:
    """The activity completes in each case, and the cancel is not lost."""
    nothing = await what_is_there(owner)
    gate = getattr(faults, when)[step] = Gate()
    run = await cancelled_at(gate, lastmile, orders.provision())

    result = await run.result()

    assert (result.status, result.reason) == (ResultStatus.ROLLED_BACK, "cancelled")
    assert await temporal_status(run) is WorkflowExecutionStatus.CANCELED
    assert await what_is_there(owner) == nothing
    assert await owner.fetchval("SELECT status FROM orders") == "rolled_back"


async def test_cancel_before_the_closing_takes_everything_back(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    """The run cannot have seen it: all steps and the closing are one workflow task."""
    nothing = await what_is_there(owner)
    gate = faults.before["close_order"] = Gate()
    run = await cancelled_at(gate, lastmile, orders.provision())

    result = await run.result()

    assert (result.status, result.reason) == (ResultStatus.ROLLED_BACK, "cancelled")
    assert await temporal_status(run) is WorkflowExecutionStatus.CANCELED
    assert set(outcomes(result).values()) == {"undone"}
    assert await what_is_there(owner) == nothing


async def test_cancel_during_the_closing_is_too_late_and_the_result_says_so(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    gate = faults.after["close_order"] = Gate()
    run = await cancelled_at(gate, lastmile, orders.provision())

    result = await run.result()

    assert (result.status, result.notes) == (ResultStatus.COMPLETED, [LATE_CANCEL])
    assert await temporal_status(run) is WorkflowExecutionStatus.COMPLETED
    assert await owner.fetchval("SELECT status FROM orders") == "completed"
    assert await owner.fetchval("SELECT state FROM delegations") == "active"


@pytest.mark.parametrize("activity", [*PROVISION, "close_order"])
async def test_cancel_beside_a_completion_rolls_back_or_is_too_late(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, activity: str
) -> None:
    nothing = await what_is_there(owner)
    gate, ending = faults.after[activity], faults.before["close_order"] = Gate(), Gate()
    if activity == "close_order":
        ending.open()
    run = await lastmile.start(orders.provision())
    await gate.reached.wait()
    gate.open()
    await run.handle.cancel()
    ending.open()

    result = await run.result()

    if activity == "close_order" and result.status is ResultStatus.COMPLETED:
        assert await owner.fetchval("SELECT status FROM orders") == "completed"
        assert await owner.fetchval("SELECT state FROM delegations") == "active"
        return
    assert (result.status, result.reason) == (ResultStatus.ROLLED_BACK, "cancelled")
    assert await what_is_there(owner) == nothing


async def test_cancel_during_a_retry_pause_rolls_back(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    nothing = await what_is_there(owner)
    failed = asyncio.Event()

    async def fail_with_a_long_pause() -> None:
        failed.set()
        raise ApplicationError("broken by the test", next_retry_delay=timedelta(hours=1))

    faults.after["allocate_ip_address"] = fail_with_a_long_pause
    run = await lastmile.start(orders.provision())
    await failed.wait()
    await run.handle.cancel()

    result = await run.result()

    assert result.status is ResultStatus.ROLLED_BACK
    assert outcomes(result)["create_radius_account"] == "undone"
    assert await what_is_there(owner) == nothing


async def test_cancel_before_the_first_worker_leaves_nothing(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    orders: Orders,
    owner: asyncpg.Connection,
) -> None:
    nothing = await what_is_there(owner)
    run = await Lastmile(client, task_queue=settings.task_queue).start(orders.provision())
    await run.handle.cancel()

    async with build_worker(client, settings, database, authorization):
        result = await run.result()

    assert result.status is ResultStatus.ROLLED_BACK
    assert outcomes(result) == dict.fromkeys(PROVISION)
    assert await what_is_there(owner) == nothing


@pytest.mark.parametrize("undo", [step.undo for step in operations.PROVISION.steps[:-1]])
async def test_cancel_during_a_rollback_changes_nothing(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, undo: str
) -> None:
    nothing = await what_is_there(owner)
    faults.after["create_billing_service"] = refused
    gate = faults.before[undo] = Gate()
    run = await cancelled_at(gate, lastmile, orders.provision())

    result = await run.result()

    assert result.reason == "create_billing_service: refused by the test"
    assert await what_is_there(owner) == nothing


async def test_second_cancel_during_a_rollback_changes_nothing(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    nothing = await what_is_there(owner)
    step = faults.after["configure_cpe"] = Gate()
    undo = faults.before["release_ip_address"] = Gate()
    run = await lastmile.start(orders.provision())
    await step.reached.wait()
    await run.handle.cancel()
    step.open()
    await undo.reached.wait()
    await run.handle.cancel()
    undo.open()

    result = await run.result()

    assert result.status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == nothing


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", BEFORE_PIVOT)
async def test_cancelled_deprovision_keeps_the_line_in_service(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, step: str, when: str
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    gate = getattr(faults, when)[step] = Gate()
    run = await cancelled_at(gate, lastmile, orders.deprovision())

    result = await run.result()

    assert (result.status, result.reason) == (ResultStatus.ROLLED_BACK, "cancelled")
    assert await what_is_there(owner) == before


@pytest.mark.parametrize("step", AFTER_PIVOT)
async def test_cancel_after_the_pivot_is_reported_as_without_effect(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, step: str
) -> None:
    await lastmile.execute(orders.provision())
    gate = faults.before[step] = Gate()
    run = await cancelled_at(gate, lastmile, orders.deprovision())

    result = await run.result()

    assert (result.status, result.notes) == (ResultStatus.COMPLETED, [LATE_CANCEL])
    assert await temporal_status(run) is WorkflowExecutionStatus.COMPLETED
    assert await owner.fetchval("SELECT count(*) FROM radcheck") == 0
    assert await owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL") == 0


async def test_caller_of_a_cancelled_order_gets_its_own_result(
    lastmile: Lastmile, orders: Orders, faults: Faults
) -> None:
    """The subscriber's next order may run under the same workflow id by then."""
    gate = faults.after["create_customer"] = Gate()
    run = await cancelled_at(gate, lastmile, orders.provision("O-1"))
    first = await run.result()
    await lastmile.execute(orders.provision("O-2"))

    assert await run.result() == first
    assert (first.order_id, first.status) == ("O-1", ResultStatus.ROLLED_BACK)


async def test_cancel_without_a_running_order_is_refused(lastmile: Lastmile, orders: Orders) -> None:
    with pytest.raises(NotRunningError, match=f"No order of subscriber {orders.ref} is running"):
        await lastmile.cancel("acme", orders.ref)
