"""Orders that correct a customer: the first and simplest change of a line, and what all changes share."""

import asyncpg
import pytest
from pydantic import ValidationError

from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus, UpdateCustomer
from lastmile.db import Database
from tests.support.orders import Orders, outcomes


async def half_changed(database: Database) -> list[str]:
    return [found.words async for found in check(database, "acme") if found.invariant.name == "half_changed"]


async def test_update_customer_corrects_the_given_fields_only(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())

    result = await lastmile.execute(orders.update_customer(phone="+44 20 7946 0000"))

    assert (result.status, outcomes(result)) == (
        ResultStatus.COMPLETED,
        {"verify_line": "done", "update_customer": "done"},
    )
    customer = await owner.fetchrow("SELECT id::text, name, email, phone FROM customers")
    assert tuple(customer) == (
        result.created.customer_id,
        "Ada Lovelace",
        "ada@example.net",
        "+44 20 7946 0000",
    )
    assert await owner.fetchval("SELECT count(*) FROM previous_values") == 0


async def test_update_customer_without_a_line_is_rolled_back(lastmile: Lastmile, orders: Orders) -> None:
    result = await lastmile.execute(orders.update_customer())
    assert result.status is ResultStatus.ROLLED_BACK
    assert result.reason == f"verify_line: Subscriber {orders.ref} does not exist. Check the reference and the tenant."


def test_update_customer_without_a_correction_is_refused(orders: Orders) -> None:
    with pytest.raises(ValidationError, match="needs a name, an email or a phone"):
        UpdateCustomer(tenant="acme", order_id="O-2", subscriber_ref=orders.ref)


async def test_second_correction_makes_the_first_result_outdated(lastmile: Lastmile, orders: Orders) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.update_customer())
    await lastmile.execute(orders.update_customer("O-3", name="Ada Byron"))
    again = await lastmile.execute(orders.update_customer())
    assert "update_customer order O-3" in again.outdated


async def test_change_that_ended_halfway_is_a_finding_until_it_is_made(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    await lastmile.execute(orders.provision())
    await owner.execute(
        """
        INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, finished_at)
        VALUES ('acme', 'O-2', 'update_customer', 'changes', $1, 'd', 'r', 'abandoned', now())
        """,
        orders.ref,
    )
    await owner.execute("INSERT INTO previous_values VALUES ('acme', 'O-2', 'update_customer', $1, '{}')", orders.ref)

    assert await half_changed(database) == [
        "order O-2 (update customer) ended abandoned after its step update_customer"
    ]
    await lastmile.execute(orders.update_customer("O-3"))
    assert await half_changed(database) == []
