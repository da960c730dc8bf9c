"""Accepted orders: committed before Temporal knows them, started once, in their turn, and never lost."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from temporalio.client import Client, Interceptor, OutboundInterceptor, StartWorkflowInput
from temporalio.exceptions import WorkflowAlreadyStartedError

from lastmile.client.accepted_order_sweeper import AcceptedOrderSweeper
from lastmile.client.errors import AlreadyRunningError, OrderIdReusedError
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.orders import Lastmile, OrderRefusedError
from lastmile.contract import ResultStatus
from lastmile.db import Database
from lastmile.encryption.codec import data_converter
from lastmile.encryption.keys import KeyRing
from lastmile.settings import Settings
from lastmile.subscribers.accepted_orders import WhenBusy
from lastmile.subscribers.errors import LineDiffersError, LineStateError, UnknownSubscriberError, UnknownTenantError
from tests.support.faults import Faults, Gate, after_closing
from tests.support.orders import NEW_PLAN, Orders
from tests.support.processes import until
from tests.support.round_trips import counted

RING = KeyRing.parse(f"k1:{base64.b64encode(bytes(range(32))).decode()}")


@pytest.fixture
async def away() -> Lastmile:
    """Return a client whose Temporal does not answer."""
    return Lastmile(await Client.connect("127.0.0.1:1", lazy=True, data_converter=data_converter(None)))


@pytest.fixture
async def inbox(database: Database, away: Lastmile) -> AsyncIterator[OrderAcceptance]:
    """Accept orders while Temporal is away."""
    async with OrderAcceptance(database, away) as acceptance:
        yield acceptance


@pytest.fixture
async def acceptance(database: Database, lastmile: Lastmile) -> AsyncIterator[OrderAcceptance]:
    """Accept orders, with a running worker."""
    async with OrderAcceptance(database, lastmile) as acceptance:
        yield acceptance


@pytest.fixture
def sweeper(database: Database, lastmile: Lastmile) -> AcceptedOrderSweeper:
    """Return the sweeper of a worker, which takes every order at once."""
    return AcceptedOrderSweeper(database, lastmile, age=timedelta())


async def ended(owner: asyncpg.Connection, *order_ids: str) -> dict[str, str]:
    """Wait until the orders have ended; return their statuses."""

    async def statuses() -> dict[str, str]:
        rows = await owner.fetch(
            "SELECT order_id, status FROM orders WHERE order_id = ANY($1) AND finished_at IS NOT NULL", order_ids
        )
        return {row["order_id"]: row["status"] for row in rows} if len(rows) == len(order_ids) else {}

    found: dict[str, str] = await until(statuses)
    return found


async def waiting(owner: asyncpg.Connection) -> dict[str, str]:
    return {row["order_id"]: row["state"] for row in await owner.fetch("SELECT order_id, state FROM accepted_orders")}


async def test_acceptance_takes_four_round_trips(database: Database, owner_url: str, away: Lastmile) -> None:
    """BEGIN with the settings and the fence, the order, the line of its subscriber, and COMMIT."""
    async with counted(owner_url) as trips:
        counting = Database(trips.url)
        try:
            async with OrderAcceptance(counting, away) as acceptance:
                await acceptance.accept(Orders("S-1").provision("o1", 1))  # connects, and prepares the statements
                before = trips.count
                assert (await acceptance.accept(Orders("S-2").provision("o2", 2))).new
                assert trips.count - before == 4
        finally:
            await counting.close()


async def test_accepted_order_is_started_and_sent_again_returns_its_result(
    acceptance: OrderAcceptance, orders: Orders, owner: asyncpg.Connection
) -> None:
    accepted = await acceptance.accept(orders.provision())
    assert (accepted.new, accepted.status) == (True, "waiting")
    await ended(owner, "O-1")
    again = await acceptance.accept(orders.provision())
    assert (again.new, again.status) == (False, "completed")
    assert again.result is not None
    assert again.result.status is ResultStatus.COMPLETED
    assert await waiting(owner) == {}
    with pytest.raises(OrderIdReusedError, match=rf"Order id O-1 was used on .* \(subscriber {orders.ref}\)"):
        await acceptance.accept(orders.provision(plan=NEW_PLAN))


async def test_order_for_a_busy_subscriber_is_refused_with_the_other_order(
    inbox: OrderAcceptance, orders: Orders, owner: asyncpg.Connection
) -> None:
    await inbox.accept(orders.provision())
    with pytest.raises(AlreadyRunningError, match=r"provision order O-1 was accepted and waits") as busy:
        await inbox.accept(orders.suspend("O-2"))
    assert (busy.value.order_id, busy.value.operation) == ("O-1", "provision")
    assert await waiting(owner) == {"O-1": "waiting"}
    behind = (await inbox.accept(orders.suspend("O-2"), WhenBusy.WAIT)).behind
    assert behind is not None
    assert behind.order_id == "O-1"


class BusyStarts(Interceptor):
    """Counts how often Temporal refuses to start a run, since another one of the same id is open."""

    def __init__(self) -> None:
        self.number = 0

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        counted = self

        class Starts(OutboundInterceptor):
            async def start_workflow(self, input: StartWorkflowInput) -> Any:
                try:
                    return await super().start_workflow(input)
                except WorkflowAlreadyStartedError:
                    counted.number += 1
                    raise

        return Starts(next)


async def test_order_sent_while_the_run_of_the_order_before_ends_is_started_without_a_sweeper(
    database: Database, client: Client, lastmile: Lastmile, settings: Settings, orders: Orders, faults: Faults
) -> None:
    gate, starts = Gate(), BusyStarts()
    after_closing(faults, gate, "O-1")
    first = await lastmile.start(orders.provision())
    await gate.reached.wait()
    seeing = Client(client.service_client, data_converter=client.data_converter, interceptors=[starts])
    async with OrderAcceptance(database, Lastmile(seeing, task_queue=settings.task_queue)) as acceptance:
        assert (await acceptance.accept(orders.change_plan("O-2"))).behind is None

        async def tried_again() -> bool:
            return starts.number > 1

        try:
            await until(tried_again)
        finally:
            gate.open()
        await first.result()
        await until(lambda: _has_ended(acceptance, orders))


async def _has_ended(acceptance: OrderAcceptance, orders: Orders) -> bool:
    return (await acceptance.accept(orders.change_plan("O-2"))).result is not None


async def test_orders_that_wait_are_started_in_the_order_of_their_acceptance(
    inbox: OrderAcceptance, sweeper: AcceptedOrderSweeper, orders: Orders, owner: asyncpg.Connection
) -> None:
    await inbox.accept(orders.provision("O-1"))
    for order in (orders.suspend("O-2"), orders.resume("O-3"), orders.change_plan("O-4"), orders.deprovision("O-5")):
        await inbox.accept(order, WhenBusy.WAIT)
    ids = [f"O-{number}" for number in range(1, 6)]

    async def all_ended() -> bool:
        await sweeper.start_waiting()
        return await owner.fetchval("SELECT count(finished_at) FROM orders") == len(ids)

    await until(all_ended)
    assert set((await ended(owner, *ids)).values()) == {"completed"}
    begun = await owner.fetch("SELECT order_id FROM orders ORDER BY created_at")
    assert [row["order_id"] for row in begun] == ids


async def test_order_that_its_workflow_would_refuse_is_refused_with_the_same_words(
    acceptance: OrderAcceptance, lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    for order, error in (
        (orders.resume("O-2"), LineStateError),
        (Orders("S-unknown").deprovision("O-3"), UnknownSubscriberError),
        (Orders("S-unknown").change_plan("O-4"), UnknownSubscriberError),
        (orders.provision("O-5", plan=NEW_PLAN), LineDiffersError),
    ):
        with pytest.raises(error) as refused:
            await acceptance.accept(order)
        try:
            words = (await lastmile.execute(order)).reason
        except OrderRefusedError as failure:
            words = str(failure)
        assert str(refused.value) in words
    with pytest.raises(UnknownTenantError, match="Tenant nobody does not exist"):
        await acceptance.accept(Orders("S-1", "nobody").deprovision("O-6"))
    assert await waiting(owner) == {}


async def test_order_that_its_run_refuses_keeps_the_sentence_and_is_not_started_again(
    inbox: OrderAcceptance, sweeper: AcceptedOrderSweeper, orders: Orders, owner: asyncpg.Connection
) -> None:
    """The order was accepted while the line that it conflicts with was not there."""
    await inbox.accept(orders.provision("O-1"))
    await inbox.accept(orders.provision("O-2", plan=NEW_PLAN), WhenBusy.WAIT)

    async def refused() -> bool:
        await sweeper.start_waiting()
        return await waiting(owner) == {"O-2": "refused"}

    await until(refused)
    again = await inbox.accept(orders.provision("O-2", plan=NEW_PLAN))
    assert again.status == "refused"
    assert "has a line in service, and the order asks for another" in again.reason
    assert await owner.fetchval("SELECT count(*) FROM accepted_orders WHERE body IS NOT NULL") == 0
    assert await sweeper.start_waiting() == 0


@pytest.mark.parametrize("contents", [1, 8], ids=["same content", "different content"])
async def test_concurrent_acceptances_of_one_order_id_accept_one_order(
    acceptance: OrderAcceptance, orders: Orders, owner: asyncpg.Connection, contents: int
) -> None:
    """Eight orders of eight subscribers contend for the id, each eight times, or one order 64 times."""
    sent = [orders.provision("O-1", nth=number % contents) for number in range(64)]
    answers = await asyncio.gather(*(acceptance.accept(order) for order in sent), return_exceptions=True)
    kinds = Counter(type(answer).__name__ for answer in answers)
    assert kinds == Counter({"Acceptance": 64 // contents, "OrderIdReusedError": 64 - 64 // contents})
    assert sum(1 for answer in answers if not isinstance(answer, BaseException) and answer.new) == 1
    await ended(owner, "O-1")
    assert await owner.fetchval("SELECT count(*) FROM delegations") == 1


async def test_sweepers_at_the_same_moment_start_each_order_once(
    inbox: OrderAcceptance, database: Database, lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    ids = [f"O-{number}" for number in range(1, 21)]
    for number, order_id in enumerate(ids):
        await inbox.accept(orders.provision(order_id, nth=number))
    sweepers = [AcceptedOrderSweeper(database, lastmile, age=timedelta()) for _ in range(2)]
    claimed = await asyncio.gather(*(sweeper.start_waiting() for sweeper in sweepers))
    assert sum(claimed) == len(ids)
    assert set((await ended(owner, *ids)).values()) == {"completed"}


async def test_order_of_a_later_date_is_scheduled_and_follows_its_schedule(
    inbox: OrderAcceptance,
    sweeper: AcceptedOrderSweeper,
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
) -> None:
    """An operator moves the Schedule, and then deletes it: the order is not started again."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    order = orders.provision(not_before=tomorrow)
    await inbox.accept(order)
    assert await sweeper.start_waiting() == 1
    row = await owner.fetchrow("SELECT state, body FROM accepted_orders")
    assert tuple(row) == ("scheduled", None)
    assert await sweeper.start_waiting() == 0

    await lastmile.scheduled.move("acme", "O-1", tomorrow + timedelta(hours=1))
    await owner.execute("UPDATE accepted_orders SET claimed_until = now()")
    await sweeper.look_at_schedules()
    assert await owner.fetchval("SELECT not_before FROM accepted_orders") == tomorrow + timedelta(hours=1)

    await lastmile.scheduled.cancel("acme", "O-1")
    await owner.execute("UPDATE accepted_orders SET claimed_until = now()")
    await sweeper.look_at_schedules()
    assert await sweeper.start_waiting() == 0
    again = await inbox.accept(order)
    assert (again.status, again.new) == ("cancelled", False)
    with pytest.raises(OrderRefusedError, match="Order O-1 was cancelled before it began"):
        await lastmile.execute(orders.provision())


async def test_password_of_an_order_that_waits_for_a_busy_subscriber_stays_stored(
    database: Database, away: Lastmile, lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """Another operation of the subscriber, which has no order yet, is running when the sweeper starts the order."""
    async with OrderAcceptance(database, away, RING) as inbox:
        await inbox.accept(orders.provision(password=SecretStr("correct horse")))
    busy = await lastmile.client.start_workflow(
        "Provision", id=f"subscriber/acme/{orders.ref}", task_queue="nobody-works-here"
    )
    await AcceptedOrderSweeper(database, lastmile, RING, age=timedelta()).start_waiting()
    assert await waiting(owner) == {"O-1": "waiting"}
    assert await owner.fetchval("SELECT count(*) FROM given_passwords") == 1
    await busy.terminate()


async def test_body_of_an_accepted_order_is_encrypted_and_has_no_password(
    database: Database, away: Lastmile, lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    order = orders.provision(password=SecretStr("correct horse"))
    async with OrderAcceptance(database, away, RING) as inbox:
        await inbox.accept(order)
    row = await owner.fetchrow("SELECT key_name, body FROM accepted_orders")
    assert row["key_name"] == "k1"
    assert b"Ada" not in row["body"]
    assert b"horse" not in RING.decrypt("k1", row["body"])
    with capture_logs() as logs:
        await AcceptedOrderSweeper(database, lastmile, age=timedelta()).start_waiting()
    (entry,) = [entry for entry in logs if entry["event"] == "order.unreadable"]
    assert "this process has no keys. Set LASTMILE_ENCRYPTION_KEYS" in entry["reason"]
    assert await waiting(owner) == {"O-1": "waiting"}
