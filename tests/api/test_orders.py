"""Orders over the API: accepted at once, read while they run, steered, and listed by pages."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import TypeAdapter
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from lastmile.api.app import create_app
from lastmile.api.context import ApiContext
from lastmile.api.order_models import OrderRequest, to_order
from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.contract import AnyOrder, Operation
from lastmile.db import Database
from lastmile.settings import Settings
from tests.support.api_keys import authorization, make_api_key
from tests.support.api_server import api_context
from tests.support.faults import Faults, Gate, refused
from tests.support.orders import Orders, api_body
from tests.support.processes import until
from tests.support.workers import RunningWorker


@pytest.fixture
def orders() -> Orders:
    return Orders(f"S-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def context(database: Database, temporal_client: Client, faults: Faults) -> AsyncIterator[ApiContext]:
    """Return the context of an API whose orders go to a task queue of the test's own."""
    client = Client(temporal_client.service_client, data_converter=pydantic_data_converter, interceptors=[faults])
    async with api_context(Settings(task_queue=f"test-{uuid.uuid4().hex}"), database, client) as context:
        yield context


@pytest.fixture
async def worker(context: ApiContext) -> AsyncIterator[None]:
    """Run a worker for the orders of the API."""
    async with RunningWorker(context.temporal.client, context.settings, context.database):
        yield


@pytest.fixture
async def acme(api: httpx.AsyncClient, database: Database) -> httpx.AsyncClient:
    """Return a client with a key for `acme` that has every permission."""
    api.headers.update(authorization(await make_api_key(database)))
    return api


async def send(api: httpx.AsyncClient, order: AnyOrder, *, prefer: str = "", **more: Any) -> httpx.Response:
    return await api.post("/v1/orders", json=api_body(order, **more), headers={"Prefer": prefer} if prefer else {})


async def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("operation", Operation)
def test_body_of_each_order_type_makes_the_same_order(orders: Orders, operation: Operation) -> None:
    order = orders.of(operation, "O-1")
    request = TypeAdapter(OrderRequest).validate_python(api_body(order))
    made = to_order(request, tenant="acme", order_id="O-1", requested_by="api-key/1")
    assert (type(made), made.digest, made.requested_by) == (type(order), order.digest, "api-key/1")


@pytest.mark.usefixtures("worker")
async def test_order_that_is_waited_for_is_answered_with_its_result(acme: httpx.AsyncClient, orders: Orders) -> None:
    answer = await send(acme, orders.provision(), prefer="wait=30")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["status"], answer.headers["Location"]) == ("completed", "/v1/orders/O-1")
    assert answer.headers["Preference-Applied"] == "wait=30"
    again = await send(acme, orders.provision())
    assert (again.status_code, again.json()["result"]["status"]) == (200, "completed")
    read = (await acme.get("/v1/orders/O-1")).json()
    assert again.json() == read
    late = await problem(await acme.post("/v1/orders/O-1/cancel", json={"reason": "moved"}), 409, "not-running")
    assert late["detail"].startswith("Order O-1 has ended (completed), and cannot be cancelled.")
    assert (read["status"], read["live"], read["requested_by"][:8]) == ("completed", None, "api-key/")
    assert {step["outcome"] for step in read["steps"]} <= {"done", "skipped"}
    reused = await send(acme, orders.provision(nth=1))
    await problem(reused, 409, "order-id-reused")


async def test_order_without_a_worker_is_accepted_and_can_be_cancelled(acme: httpx.AsyncClient, orders: Orders) -> None:
    answer = await send(acme, orders.provision())
    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
    busy = await problem(await send(acme, orders.suspend("O-2")), 409, "subscriber-busy")
    assert busy["running"] == {"order_id": "O-1", "operation": "provision", "href": "/v1/orders/O-1"}
    behind = await send(acme, orders.suspend("O-2"), when_busy="wait")
    assert (behind.status_code, behind.json()["behind"]) == (202, "O-1")

    cancelled = await acme.post("/v1/orders/O-1/cancel", json={"reason": "a typing error"})
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert cancelled.json()["reason"].endswith(": a typing error")
    again = await acme.post("/v1/orders/O-1/cancel", json={"reason": "again"})
    assert (again.status_code, again.json()["reason"]) == (200, cancelled.json()["reason"])


async def test_wrong_orders_are_refused_with_every_mistake(acme: httpx.AsyncClient, orders: Orders) -> None:
    wrong = api_body(orders.suspend("O-1"), mode="off", reason="", colour="red")
    found = await problem(await acme.post("/v1/orders", json=wrong), 422, "invalid")
    assert {error["pointer"] for error in found["errors"]} == {"/mode", "/reason", "/colour"}
    nameless = api_body(orders.suspend("O-1"))
    del nameless["order_id"]
    found = await problem(await acme.post("/v1/orders", json=nameless), 422, "invalid")
    assert found["errors"][0]["pointer"] == "/order_id"
    named = await acme.post("/v1/orders", json=nameless, headers={"Idempotency-Key": "O-7"})
    unknown = await problem(named, 404, "unknown-subscriber")
    assert orders.ref in unknown["detail"]
    await problem(await send(acme, Orders("S-1", "other").suspend()), 403, "wrong-tenant")
    await problem(await acme.get("/v1/orders/O-1"), 404, "not-found")
    empty = await problem(await acme.post("/v1/orders", headers={"Content-Type": "application/json"}), 422, "invalid")
    assert empty["errors"] == [{"detail": "The body is missing. Send a JSON object.", "pointer": ""}]
    misspelt = api_body(orders.suspend()) | {"operation": "suspnd"}
    (error,) = (await problem(await acme.post("/v1/orders", json=misspelt), 422, "invalid"))["errors"]
    assert (error["pointer"], error["detail"][:26]) == ("/operation", "must be one of 'provision'")
    assert error["detail"].endswith(", and is 'suspnd'")
    del misspelt["operation"]
    found = await problem(await acme.post("/v1/orders", json=misspelt), 422, "invalid")
    assert found["errors"] == [{"detail": "is missing", "pointer": "/operation"}]
    found = await problem(await acme.patch("/v1/orders/O-1", json={"urgency": "high"}), 422, "invalid")
    assert found["errors"] == [{"detail": "must be 'urgent', 'normal' or 'bulk', and is 'high'", "pointer": "/urgency"}]
    (error,) = (await problem(await acme.get("/v1/orders?status=done"), 422, "invalid"))["errors"]
    assert (error["parameter"], "'waiting'" in error["detail"], "'completed'" in error["detail"]) == (
        "status.0",
        True,
        True,
    )
    secret = api_body(orders.provision(), password_ref="O-9")
    await problem(await acme.post("/v1/orders", json=secret), 422, "invalid")


async def test_dry_run_answers_with_the_plan_and_accepts_nothing(
    acme: httpx.AsyncClient, orders: Orders, owner: asyncpg.Connection
) -> None:
    answer = await send(acme, orders.provision(), prefer="dry-run")
    assert (answer.status_code, answer.json()["would"]) == (200, "be_carried_out")
    assert answer.json()["steps"][0]["step"] == "create_customer"
    assert await owner.fetchval("SELECT count(*) FROM accepted_orders") == 0


async def test_pages_have_accepted_and_opened_orders_newest_first(
    acme: httpx.AsyncClient, api: httpx.AsyncClient, database: Database, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        """
        INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, created_at)
        SELECT tenant, 'O-' || n, 'suspend', 'changes', 'S-' || n, 'd', 'r', 'completed', now() - n * interval '1 hour'
        FROM generate_series(1, 9, 2) n, unnest('{acme,other}'::text[]) tenant;
        INSERT INTO accepted_orders (tenant_id, order_id, operation, subscriber_ref, digest, urgency, when_busy, state,
                                     body, accepted_at)
        SELECT tenant, 'O-' || n, 'resume', 'S-' || n, 'd', 'normal', 'wait', 'waiting', 'x',
               now() - n * interval '1 hour'
        FROM generate_series(2, 8, 2) n, unnest('{acme,other}'::text[]) tenant
        """
    )
    found, path = [], "/v1/orders?limit=2"
    while path:
        page = (await acme.get(path)).json()
        found += [order["order_id"] for order in page["results"]]
        path = page["next"]
    assert found == [f"O-{number}" for number in range(1, 10)]
    oldest, path = [], "/v1/orders?limit=4&sort=created_at"
    while path:
        page = (await acme.get(path)).json()
        oldest += [order["order_id"] for order in page["results"]]
        path = page["next"]
    assert oldest == found[::-1]
    filtered = (await acme.get("/v1/orders?status=waiting&operation=resume&subscriber=S-2&subscriber=S-3")).json()
    assert [order["order_id"] for order in filtered["results"]] == ["O-2"]
    platform = authorization(await make_api_key(database, tenant=None))
    everything = (await api.get("/v1/orders?limit=3", headers=platform)).json()
    assert [(order["tenant"], order["order_id"]) for order in everything["results"]] == [
        ("other", "O-1"),
        ("acme", "O-1"),
        ("other", "O-2"),
    ]
    await problem(await acme.get("/v1/orders?status=done"), 422, "invalid")


async def test_scheduled_order_can_be_moved_and_cancelled(
    acme: httpx.AsyncClient, orders: Orders, context: ApiContext
) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    assert (await send(acme, orders.provision(not_before=tomorrow))).status_code == 202

    async def scheduled() -> bool:
        return bool((await acme.get("/v1/orders/O-1")).json()["status"] == "scheduled")

    await until(scheduled)
    later = tomorrow + timedelta(hours=2)
    seen = (await acme.get("/v1/orders/O-1")).headers["etag"]
    moved = await acme.patch("/v1/orders/O-1", json={"not_before": later.isoformat()}, headers={"If-Match": seen})
    assert moved.status_code == 200, moved.text
    assert datetime.fromisoformat(moved.json()["not_before"]) == later
    assert await context.temporal.orders.scheduled.next_start("acme", "O-1") == later
    assert moved.headers["etag"] == (await acme.get("/v1/orders/O-1")).headers["etag"] != seen
    stale = await acme.patch("/v1/orders/O-1", json={"urgency": "bulk"}, headers={"If-Match": seen})
    await problem(stale, 412, "changed-meanwhile")
    urgent = await acme.patch("/v1/orders/O-1", json={"urgency": "URGENT"})
    assert (urgent.status_code, urgent.json()["urgency"]) == (200, "urgent"), urgent.text
    assert datetime.fromisoformat(urgent.json()["not_before"]) == later
    repeated = await send(acme, orders.provision(not_before=tomorrow))
    assert (repeated.status_code, repeated.json()) == (200, urgent.json())
    assert len((await acme.get("/v1/orders?urgency=urgent&urgency=bulk")).json()["results"]) == 1
    assert (await acme.get("/v1/orders?urgency=normal")).json()["results"] == []
    assert (await problem(await acme.patch("/v1/orders/O-1", json={}), 422, "invalid"))["errors"][0]["pointer"] == ""
    past = await acme.patch("/v1/orders/O-1", json={"not_before": "2026-01-01T00:00:00Z"})
    assert (await problem(past, 422, "invalid"))["errors"][0]["pointer"] == "/not_before"
    cancelled = await acme.post("/v1/orders/O-1/cancel", json={"reason": "the house is not built"})
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert await context.temporal.orders.scheduled.of_subscriber("acme", orders.ref) == []


async def test_orders_are_accepted_and_read_while_temporal_is_away(
    context: ApiContext, database: Database, orders: Orders
) -> None:
    """The API has never reached Temporal. What needs Temporal says that it is away."""
    client = await Client.connect("127.0.0.1:1", lazy=True, data_converter=pydantic_data_converter)
    temporal = OperatorClient(client, "nobody-works-here")
    async with OrderAcceptance(database, temporal.orders) as acceptance:
        app = create_app(replace(context, temporal=temporal, acceptance=acceptance))
        headers = authorization(await make_api_key(database))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as api:
            assert (await send(api, orders.provision())).status_code == 202
            assert (await api.get("/v1/orders/O-1")).json()["status"] == "waiting"
            away = await api.get("/v1/attention")
            await problem(away, 503, "unavailable")
            assert "Temporal does not answer" in away.json()["detail"]
            cancelled = await api.post("/v1/orders/O-1/cancel", json={"reason": "a typing error"})
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")


@pytest.mark.usefixtures("worker")
async def test_parked_order_shows_its_failure_and_takes_a_decision(
    acme: httpx.AsyncClient, orders: Orders, faults: Faults
) -> None:
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    await send(acme, orders.provision())

    async def listed() -> Any:
        found = (await acme.get("/v1/attention")).json()["results"]
        return [run for run in found if run["order_id"] == "O-1" and run["subscriber_ref"] == orders.ref]

    (waiting,) = await until(listed)
    assert (waiting["step"], waiting["href"]) == ("allocate_ip_address", "/v1/orders/O-1")
    assert [order["order_id"] for order in (await acme.get("/v1/orders?attention=true")).json()["results"]] == ["O-1"]
    assert (await acme.get("/v1/orders?attention=true&operation=suspend")).json()["results"] == []
    read = (await acme.get("/v1/orders/O-1")).json()
    assert (read["status"], read["live"], read["step"]) == ("parked", "progress", "allocate_ip_address")
    assert read["parked"]["failure"] == "refused by the test"
    unnamed = await acme.post("/v1/attention/decisions", json={"decision": "skip", "why": "ticket 1"})
    assert (await problem(unnamed, 422, "invalid"))["errors"][0]["pointer"] == "/step"
    decided = await acme.post("/v1/orders/O-1/decision", json={"decision": "abandon", "why": "ticket 1"})
    assert decided.status_code == 200, decided.text

    async def ended() -> bool:
        return bool((await acme.get("/v1/orders/O-1")).json()["status"] == "abandoned")

    await until(ended)
    after = await acme.post("/v1/orders/O-1/decision", json={"decision": "retry", "why": "ticket 1"})
    await problem(after, 409, "not-running")


async def test_attention_at_a_step_that_no_order_has_is_refused(acme: httpx.AsyncClient) -> None:
    decision = {"decision": "skip", "why": "ticket 1", "step": "activate_ontu"}
    listed = await acme.get("/v1/attention", params={"step": "activate_ontu"})
    decided = await acme.post("/v1/attention/decisions", json=decision)
    for answer in (listed, decided):
        refused = await problem(answer, 422, "invalid")
        assert refused["detail"] == "No order has a step 'activate_ontu'. Did you mean 'activate_onu'?"


async def test_decision_for_many_orders_of_a_platform_key_needs_a_tenant(
    api: httpx.AsyncClient, database: Database
) -> None:
    headers = authorization(await make_api_key(database, tenant=None))
    decision = {"decision": "retry", "why": "ticket 1"}
    unnamed = await api.post("/v1/attention/decisions", json=decision, headers=headers)
    assert (await problem(unnamed, 422, "invalid"))["errors"][0]["parameter"] == "tenant"
    named = await api.post("/v1/attention/decisions?tenant=other", json=decision, headers=headers)
    assert (named.status_code, named.json()) == (200, {"results": []})


@pytest.mark.usefixtures("worker")
async def test_cancel_of_a_running_order_rolls_back_and_past_the_pivot_is_refused(
    acme: httpx.AsyncClient, orders: Orders, faults: Faults
) -> None:

    gate = Gate()
    faults.before["activate_onu"] = gate
    await send(acme, orders.provision())
    await gate.reached.wait()
    asked = await acme.post("/v1/orders/O-1/cancel", json={"reason": "wrong address"})
    assert asked.status_code == 202, asked.text
    gate.open()

    async def rolled_back() -> bool:
        return bool((await acme.get("/v1/orders/O-1")).json()["status"] == "rolled_back")

    await until(rolled_back)
    faults.before.clear()
    assert (await send(acme, orders.provision("O-2"), prefer="wait=30")).json()["status"] == "completed"
    held = faults.before["release_ip_address"] = Gate()
    await send(acme, orders.deprovision("O-3"))
    await held.reached.wait()
    late = await acme.post("/v1/orders/O-3/cancel", json={"reason": "stay"})
    assert "point of no return" in (await problem(late, 409, "past-the-pivot"))["detail"]
    held.open()


@pytest.mark.usefixtures("worker")
async def test_events_have_each_step_once_and_resume_after_the_last_one(
    acme: httpx.AsyncClient, orders: Orders, faults: Faults
) -> None:
    faults.before["activate_onu"] = gate = Gate()
    await send(acme, orders.provision())
    await gate.reached.wait()
    gate.open()
    events = _parse(await acme.get("/v1/orders/O-1/events"))
    names = [name for _, name in events]
    assert names.count("ended") == 1
    assert names[-1] == "ended"
    ids = [id_ for id_, _ in events]
    assert len(ids) == len(set(ids)) > 5
    resumed = _parse(await acme.get("/v1/orders/O-1/events", headers={"Last-Event-ID": ids[3]}))
    assert [id_ for id_, _ in resumed] == ids[4:]
    await problem(await acme.get("/v1/orders/O-2/events"), 404, "not-found")


def _parse(answer: httpx.Response) -> list[tuple[str, str]]:
    """Return the id and the name of each event."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    lines = [line.partition(": ") for line in answer.text.splitlines()]
    ids = [value for name, _, value in lines if name == "id"]
    return list(zip(ids, [value for name, _, value in lines if name == "event"], strict=True))
