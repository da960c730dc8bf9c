"""`lastmile forget-customer`: personal data of a former customer is nowhere any more; references stay."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from temporalio.client import Client

from lastmile.client.orders import Lastmile, NotScheduledError
from lastmile.contract import OrderResult, ProvisionSubscriber, ResultStatus, workflow_id
from lastmile.settings import Settings
from tests.support.commands import Book, Cli, lines
from tests.support.orders import dispatched
from tests.support.processes import until

PERSONAL = ("Ada Lovelace", "ada@example.net", "+44 20 7946 0000")
CUSTOMER = dict(zip(("name", "email", "phone"), PERSONAL, strict=True))

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"


def ordered(book: Book) -> str:
    """Return an order of a customer with a name, an e-mail and a phone."""
    return lines(book.order() | {"customer": CUSTOMER | {"ref": f"C-{uuid.uuid4().hex[:12]}"}})


async def everything(owner: asyncpg.Connection) -> str:
    """Return every row of every table as text."""
    tables = [table["relname"] for table in await owner.fetch(TABLES)]
    rows = [await owner.fetchval(f"SELECT coalesce(string_agg(t::text, ''), '') FROM {table} t") for table in tables]
    return "".join(rows)


async def personal_data(owner: asyncpg.Connection) -> list[str]:
    """Return the personal data that the database contains."""
    found = await everything(owner)
    return [value for value in PERSONAL if value in found]


async def test_former_customer_is_forgotten_in_database_audit_log_and_temporal(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection, temporal_client: Client
) -> None:
    assert (await cli("provision", "-", stdin=ordered(book))).code == 0
    customer = await owner.fetchval("SELECT ref FROM customers")
    assert await owner.fetchval("SELECT customer_ref FROM orders") == customer
    change = ("update-customer", book.ref(), "--tenant", "acme", "--name", "Ada King")
    assert (await cli(*change)).code == 0
    forget = ("forget-customer", customer, "--tenant", "acme")
    in_service = await cli(*forget)
    assert in_service.code == 1
    assert f"Customer {customer} has lines in service: {book.ref()}. Deprovision or transfer" in in_service.err
    assert (await cli("deprovision", book.ref(), "--tenant", "acme", "--reason", "moved away")).code == 0
    # An order that ended halfway leaves what it has replaced.
    await owner.execute(
        "INSERT INTO previous_values (tenant_id, created_by_order, step, subscriber_ref, value)"
        " SELECT 'acme', 'U-1', 'update_customer', $1, jsonb_build_object('customer_id', id,"
        """ 'before', '{"name": "Ada Lovelace"}'::jsonb, 'after', '{"name": "Ada King"}'::jsonb) FROM customers""",
        book.ref(),
    )
    # An event of the CRM that is kept, with the customer in its body and in the reason.
    await owner.execute(
        "INSERT INTO hook_events (tenant_id, source, event_id, event, customer_ref, state, order_ids, reason, body)"
        " VALUES ('acme', 'crm', 'e-1', 'service.add', $1, 'failed', '{}', 'ada@example.net', 'Ada Lovelace')",
        customer,
    )
    assert await personal_data(owner) == list(PERSONAL)
    held = (await cli("history", book.ref(), "--tenant", "acme", "--json")).json

    done = await cli(*forget, "--json")
    assert (done.code, done.json) == (0, [{"customer": customer, "subscribers": [book.ref()], "runs": 3}])
    assert await personal_data(owner) == []
    assert "Ada King" not in await everything(owner)
    after = (await cli("history", book.ref(), "--tenant", "acme", "--json")).json
    assert len(after) == len(held)
    assert [entry for entry in after if entry["record"] != "customers"] == [
        entry for entry in held if entry["record"] != "customers"
    ]
    assert await owner.fetchval("SELECT count(*) FROM customers WHERE forgotten_at IS NOT NULL AND ref = $1", customer)

    async def no_history() -> bool:
        query = f"WorkflowId = '{workflow_id('acme', book.ref())}'"
        return not [run async for run in temporal_client.list_workflows(query)]

    await until(no_history)
    assert (await cli(*forget, "--json")).json == [{"customer": customer, "subscribers": [book.ref()], "runs": 0}]


async def test_customer_of_another_tenant_is_unknown(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    assert (await cli("provision", "-", stdin=ordered(book))).code == 0
    customer = await owner.fetchval("SELECT ref FROM customers")
    refused = await cli("forget-customer", customer, "--tenant", "other")
    assert refused.code == 1
    assert refused.err == f"There is no customer {customer}. Check the reference and the tenant.\n"
    assert await personal_data(owner) == list(PERSONAL)


async def test_repeat_deletes_what_temporal_has_kept_while_it_was_away(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection
) -> None:
    assert (await cli("provision", "-", stdin=ordered(book))).code == 0
    assert (await cli("deprovision", book.ref(), "--tenant", "acme", "--reason", "moved away")).code == 0
    customer = await owner.fetchval("SELECT ref FROM customers")
    away = await cli.but(TEMPORAL_ADDRESS="127.0.0.1:1")("forget-customer", customer, "--tenant", "acme")
    assert away.code == 3
    assert await personal_data(owner) == list(PERSONAL)
    done = await cli("forget-customer", customer, "--tenant", "acme", "--json")
    assert done.json == [{"customer": customer, "subscribers": [book.ref()], "runs": 2}]
    assert await personal_data(owner) == []


async def test_scheduled_order_prevents_forgetting_and_an_ended_one_is_deleted(
    cli: Cli, book: Book, worker: None, owner: asyncpg.Connection, temporal_client: Client, settings: Settings
) -> None:
    """The orders are sent past the API: only their Schedules know them."""
    customer = CUSTOMER | {"ref": f"C-{book.mark}"}
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    past, ahead = (
        ProvisionSubscriber.model_validate(
            book.order(nth, order_id=book.ref(nth), customer=customer, not_before=tomorrow)
        )
        for nth in (1, 2)
    )
    lastmile = Lastmile(temporal_client, task_queue=settings.task_queue)
    await lastmile.scheduled.hold(past)
    started = await dispatched(lastmile, await lastmile.scheduled.move("acme", past.order_id, datetime.now(UTC)))
    await started.result()
    # Not `execute`: once the order has ended, the same order again is a run of its own.
    provision = temporal_client.get_workflow_handle(past.workflow_id, result_type=OrderResult)
    assert (await provision.result()).status is ResultStatus.COMPLETED
    assert (await cli("deprovision", book.ref(), "--tenant", "acme", "--reason", "moved away")).code == 0
    forget = ("forget-customer", customer["ref"], "--tenant", "acme")
    await lastmile.scheduled.hold(ahead)

    async def listed() -> bool:
        return bool(await lastmile.scheduled.of_subscriber("acme", ahead.subscriber_ref))

    await until(listed)  # Temporal lists a Schedule after a moment
    refused = await cli(*forget)
    assert refused.code == 1
    assert f"orders that have not ended: {ahead.order_id}. Cancel them" in refused.err
    assert await personal_data(owner) == list(PERSONAL)
    await lastmile.scheduled.cancel("acme", ahead.order_id)

    async def forgotten() -> Any:
        ran = await cli(*forget, "--json")
        return ran.json if ran.code == 0 else None

    subscribers = [past.subscriber_ref]
    assert await until(forgotten) == [{"customer": customer["ref"], "subscribers": subscribers, "runs": 3}]
    with pytest.raises(NotScheduledError, match="No order"):
        await lastmile.scheduled.next_start("acme", past.order_id)


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET after = '{}'", "SELECT lastmile_forget_customer('C-1')"])
async def test_role_of_freeradius_cannot_change_the_audit_log(owner: asyncpg.Connection, statement: str) -> None:
    await owner.execute("SET ROLE lastmile_radius")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.execute(statement)
