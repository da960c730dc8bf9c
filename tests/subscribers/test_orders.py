"""Tests of the records of orders, and of their fence against late attempts."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from lastmile.db import Database, Fence
from lastmile.subscribers.errors import OrderConflictError, OrderFencedError, UnknownTenantError
from lastmile.subscribers.orders import (
    COMPENSATION_FENCE,
    STEP_FENCE,
    Opening,
    OrderStatus,
    close_order,
    open_order,
)

Act = Callable[..., Coroutine[Any, Any, Any]]
RESULT = {"status": "completed"}


async def pass_fence(database: Database, fence: Fence, order_id: str) -> None:
    async with database.tenant("acme", order_id=order_id, fence=fence):
        pass


async def begin(
    act: Act, order: str = "o1", digest: str = "d", subscriber: str = "S-1", run: str = "r1"
) -> dict[str, Any] | None:
    return (await opened(act, order, digest, subscriber, run)).result


async def opened(act: Act, order: str = "o1", digest: str = "d", subscriber: str = "S-1", run: str = "r1") -> Opening:
    opening: Opening = await act(open_order, "acme", order, "provision", subscriber, digest, run)
    return opening


async def statuses(owner: asyncpg.Connection) -> dict[str, str]:
    return {row["order_id"]: row["status"] for row in await owner.fetch("SELECT * FROM orders")}


async def test_open_order_after_its_end_returns_the_first_result(act: Act) -> None:
    assert await begin(act) is None
    assert await begin(act) is None, "an order whose run was terminated is taken up again"
    await act(close_order, "o1", OrderStatus.COMPLETED, RESULT)
    assert await begin(act) == RESULT


async def test_open_order_by_another_run_is_a_takeover_at_each_attempt(act: Act) -> None:
    """A run that repeats the call after a lost reply is not a takeover."""
    openings = [(await opened(act, run=run)).taken_over for run in ("r1", "r1", "r2", "r2")]
    assert openings == [False, False, True, True]


async def test_open_order_returns_superseded_orders_of_the_same_operation(act: Act) -> None:
    await begin(act, "o1")
    await act(open_order, "acme", "o2", "deprovision", "S-1", "d", "r2")
    await begin(act, "o3")
    assert (await opened(act, "o4")).superseded == ("o3",)


async def test_close_order_twice_keeps_the_first_result(act: Act) -> None:
    await begin(act)
    await act(close_order, "o1", OrderStatus.COMPLETED, RESULT)
    await act(close_order, "o1", OrderStatus.ABANDONED, {"status": "abandoned"})
    assert await begin(act) == RESULT


@pytest.mark.parametrize("ended", [False, True])
async def test_open_order_with_a_used_id_and_other_content_is_refused(act: Act, ended: bool) -> None:
    await begin(act)
    if ended:
        await act(close_order, "o1", OrderStatus.COMPLETED, RESULT)
    with pytest.raises(
        OrderConflictError, match=r"Order id o1 was used on 20.* for another provision \(subscriber S-1\)"
    ):
        await begin(act, digest="e")


async def test_open_order_with_the_id_of_another_tenant_is_new(act: Act) -> None:
    await begin(act)
    assert await act(open_order, "other", "o1", "provision", "S-1", "e", "r1", tenant="other") == Opening(new=True)


async def test_open_order_of_an_unknown_tenant_is_refused(act: Act) -> None:
    with pytest.raises(UnknownTenantError, match=r"Tenant nobody does not exist\. Add it with `lastmile tenant add`"):
        await act(open_order, "nobody", "o1", "provision", "S-1", "d", "r1", tenant="nobody")


async def test_open_order_after_a_terminated_run_supersedes_its_order(
    act: Act, database: Database, owner: asyncpg.Connection
) -> None:
    await begin(act, "o1")
    await begin(act, "o2")
    await pass_fence(database, COMPENSATION_FENCE, "o2")
    await begin(act, "o9", subscriber="S-9")
    await begin(act, "o3")
    assert await statuses(owner) == {"o1": "superseded", "o2": "superseded", "o3": "running", "o9": "running"}
    for order in ("o1", "o2"):
        with pytest.raises(OrderConflictError, match=f"Order {order} was terminated while it was superseded"):
            await begin(act, order)
        with pytest.raises(OrderFencedError):
            await pass_fence(database, STEP_FENCE, order)


async def test_open_order_after_a_terminated_rollback_is_refused(act: Act, database: Database) -> None:
    await begin(act)
    await pass_fence(database, COMPENSATION_FENCE, "o1")
    with pytest.raises(OrderConflictError, match="Order o1 was terminated while it was rolling_back"):
        await begin(act)


async def test_step_fence_after_the_first_undo_refuses(act: Act, database: Database, owner: asyncpg.Connection) -> None:
    await begin(act)
    await pass_fence(database, STEP_FENCE, "o1")
    await pass_fence(database, COMPENSATION_FENCE, "o1")
    assert await statuses(owner) == {"o1": "rolling_back"}
    with pytest.raises(OrderFencedError, match="Order o1 is no longer running: this late attempt changed nothing"):
        await pass_fence(database, STEP_FENCE, "o1")
    await pass_fence(database, COMPENSATION_FENCE, "o1")


@pytest.mark.parametrize("fence", [STEP_FENCE, COMPENSATION_FENCE], ids=["step", "compensation"])
async def test_fences_after_the_end_of_the_order_refuse(act: Act, database: Database, fence: Fence) -> None:
    await begin(act)
    await act(close_order, "o1", OrderStatus.COMPLETED, RESULT)
    with pytest.raises(OrderFencedError, match="Order o1"):
        await pass_fence(database, fence, "o1")


async def test_compensation_fence_waits_for_a_writing_step(
    act: Act, database: Database, owner: asyncpg.Connection
) -> None:
    """The undo must find every record of the step."""
    await begin(act)
    async with database.tenant("acme", order_id="o1", fence=STEP_FENCE):
        undo = asyncio.create_task(pass_fence(database, COMPENSATION_FENCE, "o1"))
        async with asyncio.timeout(30):
            while not await owner.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ):
                pass
        assert not undo.done()
    await undo
    assert await statuses(owner) == {"o1": "rolling_back"}


async def test_step_fence_of_two_steps_does_not_wait(act: Act, database: Database) -> None:
    await begin(act)
    async with database.tenant("acme", order_id="o1", fence=STEP_FENCE):
        await pass_fence(database, STEP_FENCE, "o1")
