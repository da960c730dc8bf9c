"""Before the pivot, a failure rolls back the work of the order, and nothing else."""

import asyncio

import asyncpg
import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from lastmile.client.orders import Lastmile, OrderRefusedError, RunLostError
from lastmile.contract import Created, ResultStatus, operations
from lastmile.contract.steps import pivot_of
from tests.support.faults import Fault, Faults, Gate, broken, once, refused
from tests.support.orders import Orders, outcomes, what_is_there

PROVISION = [step.name for step in operations.PROVISION.steps]
REQUIRED = [step.name for step in operations.PROVISION.steps if not step.best_effort]
BEFORE_PIVOT = [step.name for step in operations.DEPROVISION.steps[: pivot_of(operations.DEPROVISION.steps)]]


async def order_status(owner: asyncpg.Connection, order_id: str) -> str:
    return str(await owner.fetchval("SELECT status FROM orders WHERE order_id = $1", order_id))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", REQUIRED)
async def test_refused_step_leaves_nothing_of_the_order(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, step: str, when: str
) -> None:
    """The step fails before or after its work. The undo works in both cases."""
    nothing = await what_is_there(owner)
    getattr(faults, when)[step] = refused

    result = await lastmile.execute(orders.provision())

    assert result.status is ResultStatus.ROLLED_BACK
    assert result.reason == f"{step}: refused by the test"
    assert result.created == Created()
    done = PROVISION[: PROVISION.index(step)]
    assert outcomes(result) == dict.fromkeys(PROVISION) | dict.fromkeys(done, "undone") | {step: "failed"}
    assert await what_is_there(owner) == nothing
    assert await order_status(owner, "O-1") == "rolled_back"


async def test_step_without_retries_left_leaves_nothing_of_the_order(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    """One order for each step, all at once. In each order the replies of its step are lost until no retry is left."""
    nothing = await what_is_there(owner)
    faults.after = {(f"O-{step}", step): broken for step in REQUIRED}
    sent = [orders.provision(f"O-{step}", nth) for nth, step in enumerate(REQUIRED)]

    results = await asyncio.gather(*(lastmile.execute(order) for order in sent))

    assert [result.reason for result in results] == [f"{step}: broken by the test" for step in REQUIRED]
    for step, result in zip(REQUIRED, results, strict=True):
        proper = 10 if step in ("activate_onu", "configure_cpe") else 30
        attempts = 1 + proper  # the first attempt is a local activity
        assert {taken.step: taken.attempts for taken in result.steps}[step] == attempts
    assert await what_is_there(owner) == nothing


async def test_undo_puts_the_prefix_into_quarantine(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    faults.before["activate_onu"] = refused
    await lastmile.execute(orders.provision())

    delegation = await owner.fetchrow("SELECT state, released_at, prefix FROM delegations")
    assert (delegation["state"], delegation["released_at"] is not None) == ("revoked", True)
    rest = await owner.fetchval("SELECT extract(epoch FROM free_at - now()) FROM slots WHERE last_holder IS NOT NULL")
    assert 3500 < rest <= 3600


async def test_failed_run_carries_the_result_in_temporal(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    """A Temporal client in any language sees a failed run with the failure's type and the whole result."""
    faults.before["activate_onu"] = refused
    run = await lastmile.start(orders.provision())

    with pytest.raises(WorkflowFailureError) as failure:
        await run.handle.result()

    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message) == ("Scripted", "rolled back: activate_onu: refused by the test")
    assert cause.details[0]["status"] == "rolled_back"


async def test_failed_best_effort_step_degrades_the_order(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    faults.before["activate_ipv6_lifecycle"] = refused

    result = await lastmile.execute(orders.provision())

    assert result.status is ResultStatus.DEGRADED
    assert result.warnings == ["activate_ipv6_lifecycle: refused by the test"]
    assert outcomes(result)["activate_ipv6_lifecycle"] == "warned"
    assert await owner.fetchval("SELECT state FROM delegations") == "allocated"
    assert await order_status(owner, "O-1") == "degraded"


@pytest.mark.parametrize("activation", [None, refused], ids=["active", "never activated"])
async def test_undo_with_lost_replies_is_applied_once(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, activation: Fault | None
) -> None:
    nothing = await what_is_there(owner)
    if activation:
        faults.before["activate_ipv6_lifecycle"] = activation
    faults.after = {step.undo: once(broken) for step in operations.PROVISION.steps if step.undo}
    faults.after["create_billing_service"] = refused

    result = await lastmile.execute(orders.provision())

    assert result.status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == nothing
    events = await owner.fetch("SELECT to_state FROM delegation_events ORDER BY id")
    active = [] if activation else ["active"]
    assert [event["to_state"] for event in events] == ["allocated", *active, "revoking", "revoked"]
    billed = await owner.fetch("SELECT event FROM billing_events ORDER BY id")
    assert [event["event"] for event in billed] == ["started", "cancelled"]


async def test_failed_second_line_keeps_the_customer_and_the_first_line(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await lastmile.execute(orders.provision("O-1"))
    before = await what_is_there(owner)
    faults.after["create_billing_service"] = refused

    result = await lastmile.execute(orders.provision("O-2", 1))

    assert result.status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before


async def test_failed_order_for_a_line_in_service_keeps_the_line(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await lastmile.execute(orders.provision("O-1"))
    before = await what_is_there(owner)
    faults.after["create_billing_service"] = refused

    result = await lastmile.execute(orders.provision("O-2"))

    assert result.status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before


async def test_undo_keeps_a_customer_used_by_another_order(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    """The first order creates the customer, a second order uses it, and the first order is undone."""

    async def second_line() -> None:
        await lastmile.execute(orders.provision("O-2", 1))
        await refused()

    faults.before["O-1", "create_billing_service"] = second_line

    result = await lastmile.execute(orders.provision("O-1"))

    assert result.status is ResultStatus.ROLLED_BACK
    assert await owner.fetchval("SELECT created_by_order FROM customers") == "O-2"
    assert [row["ref"] for row in await owner.fetch("SELECT ref FROM subscribers")] == [f"{orders.ref}-1"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", BEFORE_PIVOT)
async def test_deprovision_refused_before_the_pivot_keeps_the_line(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, step: str, when: str
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    getattr(faults, when)[step] = refused

    result = await lastmile.execute(orders.deprovision())

    assert (result.status, result.reason) == (ResultStatus.ROLLED_BACK, f"{step}: refused by the test")
    assert await what_is_there(owner) == before
    assert await order_status(owner, "O-9") == "rolled_back"


async def test_rolled_back_order_sent_again_returns_the_same_result(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    faults.before["activate_onu"] = refused
    first = await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    faults.before.clear()

    assert await lastmile.execute(orders.provision()) == first
    assert await what_is_there(owner) == before
    assert (await lastmile.execute(orders.provision("O-2"))).status is ResultStatus.COMPLETED


async def test_terminated_order_is_taken_over_by_the_next_order(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    """A terminated run has no undo. Its records stay until the next order takes over."""
    gate = Gate()
    faults.before["O-1", "close_order"] = gate
    run = await lastmile.start(orders.provision("O-1"))
    await gate.reached.wait()
    await run.handle.terminate("by the test")
    gate.open()
    with pytest.raises(RunLostError, match="The run of order O-1 was ended from outside"):
        await run.result()
    while not (left := await owner.fetchval("SELECT prefix::text FROM delegations")):  # noqa: ASYNC110 -- no event
        await asyncio.sleep(0.02)

    result = await lastmile.execute(orders.provision("O-2"))

    assert (result.status, result.created.ipv6_prefix) == (ResultStatus.COMPLETED, left)
    assert await order_status(owner, "O-1") == "superseded"
    with pytest.raises(OrderRefusedError, match="Order O-1 was terminated while it was superseded"):
        await lastmile.execute(orders.provision("O-1"))
