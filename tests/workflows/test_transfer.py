"""Orders that give a line to another customer."""

import asyncpg
import pytest

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.lines import Customer
from lastmile.db import Database
from lastmile.services.dry_run import dry_run
from lastmile.services.order_files.reader import NumberedOrder
from tests.support.faults import Faults, refused
from tests.support.orders import Orders, outcomes, what_is_there
from tests.workflows.test_takeover import lost

OWNER = "SELECT c.ref FROM subscribers s JOIN customers c ON c.id = s.customer_id WHERE s.ref = $1"
EVENTS = "SELECT event, previous_customer, customer FROM billing_events ORDER BY id"


async def read_events(owner: asyncpg.Connection) -> list[tuple[str | None, ...]]:
    return [tuple(row) for row in await owner.fetch(EVENTS)]


async def test_transfer_gives_the_line_to_a_new_customer(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())

    result = await lastmile.execute(orders.transfer(email="grace@example.net"))

    assert (result.status, outcomes(result)) == (
        ResultStatus.COMPLETED,
        {"verify_line": "done", "create_customer": "done", "transfer_line": "done"},
    )
    assert await owner.fetchval(OWNER, orders.ref) == "C-2"
    assert result.created.customer_id == await owner.fetchval("SELECT id::text FROM customers WHERE ref = 'C-2'")
    assert await read_events(owner) == [("started", None, None), ("transferred", "C-1", "C-2")]
    logged = await owner.fetchval(
        "SELECT after ->> 'customer_id' FROM audit_log WHERE order_id = 'O-2' AND record = 'subscribers'"
    )
    assert logged == result.created.customer_id
    assert await owner.fetchval("SELECT count(*) FROM customers") == 2


async def test_transfer_to_a_known_customer_keeps_its_data(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.provision("O-1b", nth=1, customer=Customer(ref="C-2", name="Grace Hopper")))

    result = await lastmile.execute(orders.transfer())

    assert result.notes == ["customer.name: customer C-2 exists with another name, which the order did not change"]
    assert await owner.fetchval("SELECT name FROM customers WHERE ref = 'C-2'") == "Grace Hopper"
    assert await owner.fetchval(OWNER, orders.ref) == "C-2"


async def test_transfer_and_back_leaves_everything_as_before_but_the_customers(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.provision("O-1b", nth=1, customer=Customer(ref="C-2", name="Grace Example")))
    before = await what_is_there(owner)
    await lastmile.execute(orders.transfer())
    await lastmile.execute(orders.transfer("O-3", "C-1", name="Ada Example", email="ada@example.net"))
    assert await what_is_there(owner) == before


async def test_transfer_to_the_customer_who_has_the_line_changes_nothing(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)

    result = await lastmile.execute(orders.transfer(customer="C-1", name="Ada Example"))

    assert result.steps[2].reason == "the line belongs to customer C-1 already"
    assert await what_is_there(owner) == before
    assert await read_events(owner) == [("started", None, None)]


async def test_transfer_that_is_rolled_back_deletes_the_customer_it_created(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    faults.before[("O-2", "transfer_line")] = refused

    result = await lastmile.execute(orders.transfer())

    assert result.status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before
    assert await read_events(owner) == [("started", None, None)]


@pytest.mark.parametrize("fails", [False, True])
async def test_transfer_takes_over_a_lost_order_to_another_customer(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, fails: bool
) -> None:
    """The lost order has created its customer. The next one deletes that customer, and its own if it is rolled back."""
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    await lost(lastmile, orders.transfer(), faults, "transfer_line")
    if fails:
        faults.before[("O-3", "transfer_line")] = refused

    result = await lastmile.execute(orders.transfer("O-3", "C-3"))

    if fails:
        assert result.status is ResultStatus.ROLLED_BACK
        assert await what_is_there(owner) == before
    else:
        assert await owner.fetchval(OWNER, orders.ref) == "C-3"
        assert await owner.fetchval("SELECT array_agg(ref ORDER BY ref) FROM customers") == ["C-1", "C-3"]
        assert await read_events(owner) == [("started", None, None), ("transferred", "C-1", "C-3")]


async def test_transfer_of_a_suspended_line_keeps_it_suspended(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await owner.execute(
        "INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order)"
        " VALUES ('acme', $1, 'block', 'unpaid', 'O-1')",
        orders.ref,
    )
    await owner.execute("UPDATE billing_services SET status = 'suspended', suspended_by_order = 'O-1'")

    await lastmile.execute(orders.transfer())

    assert await owner.fetchval(OWNER, orders.ref) == "C-2"
    assert await owner.fetchval("SELECT status FROM billing_services") == "suspended"
    assert await owner.fetchval("SELECT count(*) FROM suspensions WHERE ended_at IS NULL") == 1


async def test_dry_run_of_transfer_says_what_would_change(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    await lastmile.execute(orders.provision())
    (plan,) = await dry_run(database, [NumberedOrder(1, orders.transfer())])
    assert [(step.action, step.detail) for step in plan.steps[1:]] == [
        ("create", "customer C-2"),
        ("change", "the line from customer C-1 to customer C-2"),
    ]
    assert await owner.fetchval(OWNER, orders.ref) == "C-1"
