"""An order's row is its fence: no attempt acts that the order has moved on from.

An attempt that timed out may still be on its way; these are its late arrivals, run by hand.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.addresses import AddressActivities
from activities.base import done
from activities.group_messages import OrderOpening
from activities.messages import StepContext, StepReport
from activities.orders import OrderActivities
from activities.records import RecordActivities
from activities.step_groups import StepGroups
from ipam.allocation import Quarantine
from lastmile.contract.addressing import Addressing
from lastmile.contract.lines import Customer
from lastmile.contract.results import OrderResult, StepOutcome
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from tests.support.steps import closing

ADDRESSING = Addressing()
REST = Quarantine(timedelta(hours=1), timedelta(hours=2))


def ref(order_id: str = "O-1", *, undo: bool = False) -> StepContext:
    return StepContext(tenant="acme", order_id=order_id, subscriber_ref="S-1", undo=undo)


async def run(activity: Any, *arguments: Any) -> Any:
    return await ActivityEnvironment().run(activity, *arguments)


@pytest.fixture
async def addresses(database: Database) -> AsyncIterator[AddressActivities]:
    async with DynamicAuthorization(timeout=1, tries=1, in_flight=1) as authorization:
        yield AddressActivities(database, authorization, REST)


@pytest.fixture
def orders(database: Database) -> OrderActivities:
    return OrderActivities(database, StepGroups({}))


async def begin(orders: OrderActivities, order_id: str = "O-1") -> None:
    await run(orders.open_order, ref(order_id), OrderOpening(operation="provision", digest=f"of {order_id}"))


async def held(owner: asyncpg.Connection) -> int:
    taken = await owner.fetchval("SELECT count(*) FROM slots WHERE delegation_id IS NOT NULL")
    kept = await owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL")
    assert taken == kept
    return int(kept)


async def assert_fenced(activity: Any, *arguments: Any) -> None:
    with pytest.raises(ApplicationError) as failure:
        await run(activity, *arguments)
    assert (failure.value.type, failure.value.non_retryable) == ("OrderFencedError", True)


async def test_allocation_after_its_undo_is_refused(
    orders: OrderActivities, addresses: AddressActivities, owner: asyncpg.Connection
) -> None:
    await begin(orders)
    report = await run(addresses.release_ip_address, ref(undo=True))
    assert report.outcome is StepOutcome.SKIPPED

    await assert_fenced(addresses.allocate_ip_address, ref(), ADDRESSING)

    assert await owner.fetchval("SELECT count(*) FROM delegations") == 0


async def test_allocation_after_the_rollback_is_refused(
    orders: OrderActivities, addresses: AddressActivities, owner: asyncpg.Connection
) -> None:
    await begin(orders)
    await run(addresses.allocate_ip_address, ref(), ADDRESSING)
    assert (await run(addresses.release_ip_address, ref(undo=True))).outcome is StepOutcome.UNDONE

    await assert_fenced(addresses.allocate_ip_address, ref(), ADDRESSING)

    assert await held(owner) == 0


async def test_allocation_beside_its_undo_leaves_nothing(
    orders: OrderActivities, addresses: AddressActivities, owner: asyncpg.Connection
) -> None:
    ends = set()
    for number in range(20):
        order_id = f"O-{number}"
        await begin(orders, order_id)
        undo = run(addresses.release_ip_address, ref(order_id, undo=True))
        late = run(addresses.allocate_ip_address, ref(order_id), ADDRESSING)
        pair = (undo, late) if number % 2 else (late, undo)
        results = await asyncio.gather(*pair, return_exceptions=True)
        ends.add(tuple(sorted(type(result).__name__ for result in results)))
        await run(orders.close_order, ref(order_id), closing(ref(order_id), "rolled_back"))
        assert await held(owner) == 0
    assert ends <= {("ApplicationError", "StepReport"), ("StepReport", "StepReport")}


async def test_concurrent_attempts_of_one_allocation_get_one_prefix(
    orders: OrderActivities, addresses: AddressActivities, owner: asyncpg.Connection
) -> None:
    await begin(orders)

    reports: list[StepReport] = await asyncio.gather(
        *(run(addresses.allocate_ip_address, ref(), ADDRESSING) for _ in range(6))
    )

    assert len({report.facts["ipv6_prefix"] for report in reports}) == 1
    assert await held(owner) == 1


async def test_step_of_a_superseded_order_is_refused(
    orders: OrderActivities, addresses: AddressActivities, owner: asyncpg.Connection
) -> None:
    """Its run was terminated and the subscriber's next order took over what it had: neither a step nor an undo
    of it may touch that."""
    await begin(orders, "O-1")
    await run(addresses.allocate_ip_address, ref("O-1"), ADDRESSING)
    await begin(orders, "O-2")

    await assert_fenced(addresses.release_ip_address, ref("O-1", undo=True))
    await assert_fenced(addresses.activate_ipv6_lifecycle, ref("O-1"))

    assert await held(owner) == 1
    assert await owner.fetchval("SELECT state FROM delegations") == "allocated"


@pytest.mark.parametrize("status", ["completed", "degraded", "rolled_back", "abandoned"])
async def test_step_and_end_of_an_ended_order_are_refused(
    orders: OrderActivities, addresses: AddressActivities, owner: asyncpg.Connection, status: str
) -> None:
    await begin(orders)
    first = await run(
        orders.close_order, ref(), closing(ref(), status, create_radius_account=done(radius_username="first"))
    )

    await assert_fenced(addresses.allocate_ip_address, ref(), ADDRESSING)
    await assert_fenced(addresses.release_ip_address, ref(undo=True))
    assert (
        await run(
            orders.close_order, ref(), closing(ref(), "completed", create_radius_account=done(radius_username="second"))
        )
        == first
    )

    row = await owner.fetchrow("SELECT status, result FROM orders")
    assert (row["status"], OrderResult.model_validate_json(row["result"])) == (status, first)
    assert (first.status, first.created.radius_username) == (status, "first")


async def test_step_without_its_order_is_refused(addresses: AddressActivities, owner: asyncpg.Connection) -> None:
    await assert_fenced(addresses.allocate_ip_address, ref(), ADDRESSING)
    assert await held(owner) == 0


async def test_refusal_is_not_retryable_and_named(orders: OrderActivities, addresses: AddressActivities) -> None:
    await begin(orders)
    with pytest.raises(ApplicationError) as failure:
        await run(addresses.allocate_ip_address, ref(), Addressing(ipv6_pd_size=60))
    assert (failure.value.type, failure.value.non_retryable) == ("UnknownPoolError", True)
    assert failure.value.details == (1,)
    assert "no ipv6_pd pool of /60s: add one with `lastmile pool add`" in failure.value.message


async def test_unreachable_database_is_retryable_without_personal_data(database: Database) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nowhere")
    customer = Customer(ref="C-1", name="Ada Example", email="ada@example.net")
    with pytest.raises(ApplicationError) as failure:
        await run(RecordActivities(away).create_customer, ref(), customer)
    assert failure.value.non_retryable is False
    assert "Ada" not in repr(failure.value) + str(failure.value.__cause__)
    await away.close()
