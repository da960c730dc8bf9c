"""The client over the REST API gives the results and the errors of the client over Temporal."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from lastmile.api.context import ApiContext
from lastmile.client.api.orders import LastmileApi
from lastmile.client.errors import (
    AlreadyRunningError,
    NotRunningError,
    NotScheduledError,
    OrderIdReusedError,
    OrderRefusedError,
    PastPivotError,
    RunLostError,
)
from lastmile.contract import Decision, ResultStatus, RunStatus
from tests.support.api_server import serving
from tests.support.faults import Faults, Gate, alone, refused
from tests.support.orders import Orders
from tests.support.processes import until


@pytest.mark.usefixtures("worker")
async def test_order_over_the_api_has_the_result_of_the_same_order_over_temporal(
    lastmile: LastmileApi, orders: Orders, context: ApiContext
) -> None:
    result = await lastmile.execute(orders.provision())
    assert (result.status, result.order_id) == (ResultStatus.COMPLETED, "O-1")
    assert result.created.ipv6_prefix
    assert await lastmile.execute(orders.provision()) == result
    assert await context.temporal.orders.execute(orders.provision()) == result
    progress = await lastmile.progress("acme", orders.ref)
    assert progress is not None
    assert (progress.status, progress.result) == (RunStatus.ENDED, result)
    with pytest.raises(OrderIdReusedError, match="O-1"):
        await lastmile.start(orders.provision(nth=1))


async def test_order_of_a_busy_subscriber_names_the_order_in_the_way(lastmile: LastmileApi, orders: Orders) -> None:
    await lastmile.start(orders.provision())
    with pytest.raises(AlreadyRunningError) as busy:
        await lastmile.start(orders.suspend("O-2"))
    assert (busy.value.order_id, busy.value.operation) == ("O-1", "provision")
    assert await lastmile.progress("acme", orders.ref) is None, "no run has opened it"
    run = await lastmile.start(orders.provision())
    await lastmile.cancel("acme", orders.ref, reason="a typing error")
    with pytest.raises(OrderRefusedError, match=r"never began\..*a typing error"):
        await run.result()


async def test_order_that_would_fail_is_refused_before_it_begins(lastmile: LastmileApi, orders: Orders) -> None:
    with pytest.raises(OrderRefusedError, match=orders.ref):
        await lastmile.execute(orders.suspend())
    with pytest.raises(NotRunningError):
        await lastmile.cancel("acme", orders.ref)
    with pytest.raises(NotRunningError):
        await lastmile.decide("acme", orders.ref, "retry_step", Decision(by="noc", why="ticket 4711"))


@pytest.mark.usefixtures("worker")
async def test_parked_order_is_heard_of_and_released(lastmile: LastmileApi, orders: Orders, faults: Faults) -> None:
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    run = await lastmile.start(orders.provision())
    result = asyncio.create_task(run.result())

    async def parked() -> str:
        return lastmile.attention("acme", "O-1")

    assert "undo of allocate_ip_address failed" in await until(parked)
    progress = await lastmile.progress("acme", orders.ref)
    assert progress is not None
    assert (progress.status, progress.attention) == (RunStatus.PARKED, lastmile.attention("acme", "O-1"))
    waiting = [run for run in await until(lastmile.parked_runs) if run.subscriber_ref == orders.ref]
    assert [(one.order_id, one.step, one.attention) for one in waiting] == [
        ("O-1", "allocate_ip_address", progress.attention)
    ]
    with pytest.raises(NotRunningError, match="not activate_onu"):
        await lastmile.decide("acme", orders.ref, "skip_step", Decision(by="noc", why="no", step="activate_onu"))
    faults.before.clear()
    decision = Decision(by="noc", why="ticket 4711")
    assert "retry_step" in await lastmile.decide("acme", orders.ref, "retry_step", decision)
    assert (await result).status is ResultStatus.ROLLED_BACK


@pytest.mark.usefixtures("worker")
async def test_order_past_its_pivot_cannot_be_cancelled(lastmile: LastmileApi, orders: Orders, faults: Faults) -> None:
    await lastmile.execute(orders.provision())
    gate = Gate()
    faults.before["delete_radius_account"] = alone(gate)
    run = await lastmile.start(orders.deprovision())
    await gate.reached.wait()
    with pytest.raises(PastPivotError, match="O-9 is past its point of no return"):
        await lastmile.cancel("acme", orders.ref)
    gate.open()
    assert (await run.result()).status is ResultStatus.COMPLETED


async def test_scheduled_order_is_listed_moved_and_cancelled(lastmile: LastmileApi, orders: Orders) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    order = orders.provision(not_before=tomorrow)
    run = await lastmile.start(order)
    assert run.scheduled is not None
    assert (run.scheduled.at, run.scheduled.schedule) == (tomorrow, "order/acme/O-1")
    assert (await run.result()).status is ResultStatus.SCHEDULED

    async def listed() -> list[str]:
        return [one.order_id async for one in lastmile.scheduled.waiting("acme")]

    assert await until(listed) == ["O-1"]
    later = tomorrow + timedelta(hours=2)
    assert (await lastmile.scheduled.move("acme", "O-1", later)).at == later
    assert [one.at for one in await lastmile.scheduled.of_subscriber("acme", orders.ref)] == [later]
    again = await lastmile.start(order)
    assert again.scheduled is not None
    assert again.scheduled.at == later, "as it was moved"
    await lastmile.scheduled.cancel("acme", "O-1")
    for unknown in ("O-1", "O-404"):
        with pytest.raises(NotScheduledError):
            await lastmile.scheduled.cancel("acme", unknown)


@pytest.mark.usefixtures("worker")
async def test_order_survives_an_api_that_goes_away_and_comes_back(
    context: ApiContext, token: str, orders: Orders, faults: Faults
) -> None:
    gate = Gate()
    faults.before["create_customer"] = alone(gate)
    async with serving(context) as url:
        lastmile = LastmileApi(url, token)
        run = await lastmile.start(orders.provision())
        result = asyncio.create_task(run.result())
        await gate.reached.wait()
    second = asyncio.create_task(lastmile.start(orders.provision()))
    gate.open()
    async with lastmile, serving(context, int(url.rpartition(":")[2])):
        assert (await result).status is ResultStatus.COMPLETED
        assert (await (await second).result()) == await result


@pytest.mark.usefixtures("worker")
async def test_order_whose_run_was_terminated_continues_when_it_is_sent_again(
    lastmile: LastmileApi, orders: Orders, context: ApiContext, faults: Faults
) -> None:
    gate = Gate()
    faults.before["create_customer"] = alone(gate)
    first = await lastmile.start(orders.provision())
    await gate.reached.wait()
    await context.temporal.client.get_workflow_handle(orders.provision().workflow_id).terminate()
    faults.before.clear()
    gate.open()
    again = await lastmile.start(orders.provision())
    assert (await again.result()).status is ResultStatus.COMPLETED
    assert await first.result() == await again.result()


async def test_order_whose_run_was_taken_over_is_lost(
    lastmile: LastmileApi, orders: Orders, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        """
        INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, created_at)
        VALUES ('acme', 'O-1', 'provision', 'changes', $1, $2, 'r', 'superseded', now())
        """,
        orders.ref,
        orders.provision().digest,
    )
    with pytest.raises(RunLostError, match="O-1 was ended from outside"):
        await lastmile.execute(orders.provision())
