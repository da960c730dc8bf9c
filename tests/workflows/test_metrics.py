"""The counters of orders and steps: each counts once, whatever is retried or lost."""

from collections import Counter
from datetime import timedelta

import asyncpg
import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.interceptor import ActivityInterceptor
from activities.messages import StepContext
from lastmile.client.orders import Lastmile, OrderRefusedError
from lastmile.contract import OrderResult, ResultStatus, operations
from lastmile.contract.addressing import Addressing, IPv4Mode
from lastmile.devstack.nas import ScriptedNas
from tests.support.faults import Faults, Gate, after_closing, broken, once, refused
from tests.support.metrics import Counted
from tests.support.orders import Orders, log_in, outcomes, parked
from workflows.registry import RUNNER

ORDERS = "lastmile_orders_total"
ORDER_SECONDS = "lastmile_order_duration_seconds_count"
STEPS = "lastmile_steps_total"
ATTEMPTS = "lastmile_step_duration_seconds_count"
RETRIES = "lastmile_step_retries_total"
ALLOCATED = "ipv6_allocation_duration_seconds_count"
REVOKED = "ipv6_revocation_duration_seconds_count"


@pytest.fixture
def counted() -> Counted:
    return Counted()


def as_reported(result: OrderResult) -> dict[tuple[str, ...], float]:
    """Return the steps of the result as the metric counts them: by outcome, step and tenant."""
    return {(outcome, step, result.tenant): 1 for step, outcome in outcomes(result).items() if outcome is not None}


async def test_repeated_order_counts_once(lastmile: Lastmile, orders: Orders, counted: Counted) -> None:
    result = await lastmile.execute(orders.provision())
    await lastmile.execute(orders.provision())  # the repeated order changes nothing

    assert counted.since(ORDERS) == {("provision", "completed", "acme"): 1}
    assert counted.since(ORDER_SECONDS) == {("provision", "acme"): 1}
    assert counted.since(STEPS) == as_reported(result)
    own = {"open_order": 2, "close_order": 1}
    assert counted.since(ATTEMPTS) == {(name,): own.get(name, 1) for name in (*outcomes(result), *own)}
    assert counted.since(RETRIES) == {}
    assert counted.since(ALLOCATED) == {("acme",): 1}
    assert counted.since(REVOKED) == {}


async def test_deprovision_counts_a_revocation(lastmile: Lastmile, orders: Orders, counted: Counted) -> None:
    await lastmile.execute(orders.provision())
    before = counted.since(ALLOCATED)
    result = await lastmile.execute(orders.deprovision())

    assert counted.since(ORDERS)["deprovision", "completed", "acme"] == 1
    assert counted.since(STEPS).items() >= as_reported(result).items()
    assert counted.since(REVOKED) == {("acme",): 1}
    assert counted.since(ALLOCATED) == before


async def test_order_without_a_prefix_counts_no_allocation(
    lastmile: Lastmile, orders: Orders, counted: Counted
) -> None:
    bare = Addressing(enable_ipv6=False, ipv4_mode=IPv4Mode.STATIC)
    result = await lastmile.execute(orders.provision(addressing=bare))
    assert result.created.ipv4_address
    await lastmile.execute(orders.deprovision())

    assert counted.since(ALLOCATED) == {}
    assert counted.since(REVOKED) == {}


async def test_duration_of_an_order_equals_its_row(
    lastmile: Lastmile, orders: Orders, counted: Counted, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    [took] = counted.since("lastmile_order_duration_seconds_sum").values()
    assert took == pytest.approx(
        await owner.fetchval("SELECT extract(epoch FROM finished_at - created_at)::float FROM orders")
    )


async def test_order_with_a_lost_reply_counts_once(
    lastmile: Lastmile, orders: Orders, counted: Counted, faults: Faults
) -> None:
    after_closing(faults, once(broken))
    result = await lastmile.execute(orders.provision())

    assert (faults.ran["open_order"], faults.ran["close_order"]) == (2, 1)
    assert counted.since(ORDERS) == {("provision", "completed", "acme"): 1}
    assert counted.since(STEPS) == as_reported(result)


async def test_rolled_back_order_counts_its_undone_steps(
    lastmile: Lastmile, orders: Orders, counted: Counted, faults: Faults
) -> None:
    faults.before["create_billing_service"] = refused
    result = await lastmile.execute(orders.provision())

    assert counted.since(ORDERS) == {("provision", "rolled_back", "acme"): 1}
    steps = counted.since(STEPS)
    assert steps == as_reported(result)
    assert Counter(outcome for outcome, _, _ in steps) == {"undone": len(operations.PROVISION.steps) - 1, "failed": 1}
    undos = {step.undo for step in operations.PROVISION.steps}
    assert {name for (name,) in counted.since(ATTEMPTS)} >= undos
    assert counted.since(REVOKED) == {("acme",): 1}


async def test_cancelled_order_counts_as_cancelled(
    lastmile: Lastmile, orders: Orders, counted: Counted, faults: Faults
) -> None:
    gate = faults.before["close_order"] = Gate()
    run = await lastmile.start(orders.provision())
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    result = await run.result()

    assert result.status is ResultStatus.ROLLED_BACK
    assert counted.since(ORDERS) == {("provision", "cancelled", "acme"): 1}
    assert counted.since(STEPS) == as_reported(result)


async def test_refused_step_counts_no_retry(lastmile: Lastmile, orders: Orders, counted: Counted) -> None:
    orders.tenant = "other"  # without a pool of /48s
    result = await lastmile.execute(orders.provision(addressing=Addressing(ipv6_pd_size=48)))

    assert result.status is ResultStatus.ROLLED_BACK
    assert counted.since(ORDERS) == {("provision", "refused", "other"): 1}
    assert counted.since(STEPS)["failed", "allocate_ip_address", "other"] == 1
    assert counted.since(ATTEMPTS)["allocate_ip_address",] == 1
    assert counted.since(RETRIES) == {}
    assert counted.since(ALLOCATED) == {}


async def test_provision_that_differs_from_the_live_line_counts_as_refused(
    lastmile: Lastmile, orders: Orders, counted: Counted
) -> None:
    await lastmile.execute(orders.provision("O-1"))

    with pytest.raises(OrderRefusedError):
        await lastmile.execute(orders.provision("O-2", addressing=Addressing(enable_ipv6=False)))

    assert counted.since(ORDERS) == {("provision", "completed", "acme"): 1, ("provision", "refused", "acme"): 1}


async def test_provision_from_an_exhausted_pool_counts_as_a_failure(
    lastmile: Lastmile, orders: Orders, counted: Counted
) -> None:
    orders.tenant = "other"  # with a pool of two prefixes
    for nth in range(3):
        await lastmile.execute(orders.provision(f"O-{nth}", nth))

    assert counted.since(ORDERS) == {("provision", "completed", "other"): 2, ("provision", "rolled_back", "other"): 1}


async def test_failed_attempt_counts_a_retry_by_its_type(
    lastmile: Lastmile, orders: Orders, counted: Counted, faults: Faults, owner: asyncpg.Connection
) -> None:
    """The first attempt, a local activity, finds no table. The second, a regular activity, finds it."""
    names = iter([("customers", "gone"), ("gone", "customers")])

    async def move() -> None:
        before, after = next(names)
        await owner.execute(f"ALTER TABLE {before} RENAME TO {after}")

    faults.before["create_customer"] = move
    result = await lastmile.execute(orders.provision())

    assert result.status is ResultStatus.COMPLETED
    assert counted.since(RETRIES) == {("ProgrammingError", "create_customer"): 1}
    assert counted.since(ATTEMPTS)["create_customer",] == 2
    assert counted.since(STEPS) == as_reported(result)


async def test_parked_run_counts_when_it_ends(
    lastmile: Lastmile, orders: Orders, counted: Counted, faults: Faults
) -> None:
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    run = await lastmile.start(orders.provision())
    await parked(run)
    assert counted.since(ORDERS) == counted.since(STEPS) == {}
    await run.handle.terminate()


async def test_live_session_counts_its_requests(
    lastmile: Lastmile, orders: Orders, counted: Counted, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """A step that declines to run in its group does not count as an attempt."""
    await log_in(owner, orders, "4F0C-01", nas)
    await lastmile.execute(orders.provision())
    assert counted.since(ATTEMPTS)["activate_ipv6_lifecycle",] == 1
    assert counted.since(RETRIES) == {}

    await lastmile.execute(orders.deprovision())
    requests = counted.since("lastmile_radius_requests_total")
    assert requests == {("coa", "bng-1", "ack"): 1, ("disconnect", "bng-1", "ack"): 1}


REF = StepContext(tenant="acme", order_id="O-1", subscriber_ref="S-1")


@activity.defn
async def never(ref: StepContext) -> None:
    raise ApplicationError("words", type="Never")


@workflow.defn
class Stubborn:
    """A workflow with three attempts of a failing activity."""

    @workflow.run
    async def run(self) -> None:
        thrice = RetryPolicy(timedelta(milliseconds=1), maximum_attempts=3)
        await workflow.execute_activity(never, REF, start_to_close_timeout=timedelta(seconds=10), retry_policy=thrice)


async def test_last_attempt_counts_no_retry(temporal_client: Client, orders: Orders, counted: Counted) -> None:
    worker = Worker(
        temporal_client,
        task_queue=orders.ref,
        workflows=[Stubborn],
        activities=[never],
        interceptors=[ActivityInterceptor()],
        workflow_runner=RUNNER,
    )
    async with worker:
        with pytest.raises(WorkflowFailureError):
            await temporal_client.execute_workflow(Stubborn.run, id=orders.ref, task_queue=orders.ref)

    assert counted.since(ATTEMPTS) == {("never",): 3}
    assert counted.since(RETRIES) == {("Never", "never"): 2}
