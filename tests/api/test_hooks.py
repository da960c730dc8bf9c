"""Events by webhook: verified, committed, mapped and ordered in their sequence; a repeat makes no second order."""

import asyncio
import base64
import hmac
import json
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from temporalio.client import Client

from lastmile.api.app import create_app
from lastmile.api.auth.hook_senders import HookGate
from lastmile.api.context import ApiContext
from lastmile.client.accepted_order_sweeper import AcceptedOrderSweeper
from lastmile.client.hook_intake import HookIntake
from lastmile.client.hook_sweeper import HookSweeper
from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.db import Database
from lastmile.encryption.keys import DecryptionError, KeyRing
from lastmile.services.hooks.events import HookEventState, list_events
from lastmile.services.hooks.mapping import Mapping
from lastmile.services.hooks.registry import MAPPINGS
from lastmile.services.hooks.sources import HookSource, NewHookSource, add_source
from lastmile.settings import Settings
from tests.support.api_keys import authorization, make_api_key
from tests.support.hooks import UispService, documented_mapping
from tests.support.processes import until
from tests.support.workers import RunningWorker

KEYS = f"k1:{base64.b64encode(bytes(range(32))).decode()}"
RING = KeyRing.parse(KEYS)
ROUNDS = 25 if "LASTMILE_EVERY_CASE" in os.environ else 1


@dataclass(frozen=True)
class Sender:
    """A CRM that sends events."""

    api: httpx.AsyncClient
    source: HookSource
    secret: str

    async def send(self, body: Any, **request: Any) -> httpx.Response:
        return await self.api.post(f"/hooks/{self.source.name}", params={"token": self.secret}, json=body, **request)

    async def sent(self, body: Any, status: int = 202) -> dict[str, Any]:
        """Send an event that must be received; return what came of it."""
        answer = await self.send(body)
        assert answer.status_code == status, answer.text
        receipt: dict[str, Any] = answer.json()
        return receipt


async def uisp_source(database: Database) -> tuple[HookSource, str]:
    new = NewHookSource(source="crm", tenant="acme", mapping="uisp")
    return await add_source(database, new, None, actor="")


@pytest.fixture
async def uisp(api: httpx.AsyncClient, database: Database) -> Sender:
    """Return a UISP that sends events of tenant `acme`."""
    return Sender(api, *await uisp_source(database))


@pytest.fixture
def service() -> UispService:
    return UispService()


async def accepted(owner: asyncpg.Connection) -> list[tuple[str, str]]:
    """Return the subscriber and the operation of every accepted order, the oldest first."""
    rows = await owner.fetch("SELECT subscriber_ref, operation FROM accepted_orders ORDER BY accepted_at")
    return [(row["subscriber_ref"], row["operation"]) for row in rows]


async def receive_only(
    owner: asyncpg.Connection, service: UispService, event: str, source: str = "crm", key_name: str | None = None
) -> None:
    """Record an event as a process leaves it that stops before the mapping."""
    body = service.event(event)
    await owner.execute(
        "INSERT INTO hook_events"
        " (tenant_id, source, event_id, event, subscriber_ref, state, order_ids, body, key_name)"
        " VALUES ('acme', $1, $2, $3, $4, 'received', '{}', $5, $6)",
        *(source, body["uuid"], event, service.ref, json.dumps(body).encode(), key_name),
    )


async def test_eight_events_become_orders_in_their_sequence(
    uisp: Sender, service: UispService, owner: asyncpg.Connection
) -> None:
    """No worker runs: each event finds the line as it will be after the orders that wait."""
    states = {
        name: (await uisp.sent(service.event(f"service.{name}")))["state"]
        for name in ("add", "activate", "edit", "suspend", "suspend_cancel", "postpone", "end", "archive")
    }
    assert states == {
        **dict.fromkeys(("add", "edit", "suspend", "suspend_cancel", "end"), "ordered"),
        **dict.fromkeys(("activate", "postpone", "archive"), "ignored"),
    }
    expected = ["provision", "change_plan", "suspend", "resume", "deprovision"]
    assert await accepted(owner) == [(service.ref, operation) for operation in expected]
    assert await owner.fetchval("SELECT count(*) FROM hook_events WHERE body IS NOT NULL") == 0
    senders = await owner.fetch("SELECT DISTINCT tenant_id, requested_by, when_busy FROM accepted_orders")
    assert [tuple(row) for row in senders] == [("acme", "hook/crm", "wait")]


async def test_repeated_event_is_recognised_and_makes_no_second_order(
    uisp: Sender, service: UispService, owner: asyncpg.Connection
) -> None:
    added, suspended = service.event("service.add"), service.event("service.suspend")
    first = await uisp.sent(added)
    order_id = f"crm-{added['uuid']}"
    assert (first["state"], first["orders"]) == ("ordered", [f"/v1/orders/{order_id}"])
    await uisp.sent(suspended)
    repeats = await asyncio.gather(*(uisp.sent(added, 200) for _ in range(5)))
    assert repeats == [first] * 5
    assert [operation for _, operation in await accepted(owner)] == ["provision", "suspend"]


@pytest.mark.parametrize("stopped", ["before its mapping", "after its order"])
async def test_event_of_a_process_that_stopped_continues_with_its_repeat(
    uisp: Sender, service: UispService, owner: asyncpg.Connection, stopped: str
) -> None:
    added = service.event("service.add")
    await uisp.sent(added)
    await owner.execute("UPDATE hook_events SET state = 'received', order_ids = '{}', body = 'x'")
    await owner.execute("UPDATE hook_events SET body = $1", json.dumps(added).encode())
    if stopped == "before its mapping":
        await owner.execute("DELETE FROM accepted_orders")
    again = await uisp.sent(added, 200)
    assert (again["state"], again["orders"]) == ("ordered", [f"/v1/orders/crm-{added['uuid']}"])
    assert [operation for _, operation in await accepted(owner)] == ["provision"]


async def test_later_event_orders_an_earlier_one_of_a_process_that_stopped_first(
    uisp: Sender, service: UispService, owner: asyncpg.Connection
) -> None:
    await uisp.sent(service.event("service.add"))
    await receive_only(owner, service, "service.suspend")
    assert (await uisp.sent(service.event("service.suspend_cancel")))["state"] == "ordered"
    assert [operation for _, operation in await accepted(owner)] == ["provision", "suspend", "resume"]


async def test_requests_of_a_source_take_turns_as_they_came_and_wrong_ones_wait_for_none(
    uisp: Sender, service: UispService, app: FastAPI, owner: asyncpg.Connection
) -> None:
    await uisp.sent(service.event("service.add"))
    gate: HookGate = app.state.hook_gate
    async with gate.turn("crm"):
        suspend = asyncio.create_task(uisp.sent(service.event("service.suspend")))
        assert (await uisp.api.post("/hooks/crm?token=wrong", json={})).status_code == 401
        cancel = asyncio.create_task(uisp.sent(service.event("service.suspend_cancel")))
        for _ in range(20):  # each asks the database
            assert (await uisp.api.post("/hooks/unknown", json={})).status_code == 401
        assert await owner.fetchval("SELECT count(*) FROM hook_events") == 1
    assert [(await suspend)["state"], (await cancel)["state"]] == ["ordered", "ordered"]
    assert [operation for _, operation in await accepted(owner)] == ["provision", "suspend", "resume"]


async def test_fault_of_a_mapping_keeps_the_event(
    uisp: Sender, service: UispService, context: ApiContext, database: Database, owner: asyncpg.Connection
) -> None:
    await receive_only(owner, service, "service.add")
    (event,) = await list_events(database)
    gone = replace(uisp.source, mapping="gone")
    kept = await HookIntake(database, context.acceptance).order(gone, event)
    assert kept.state is HookEventState.FAILED
    assert "The mapping gone failed: KeyError" in str(kept.reason)
    again = await HookIntake(database, context.acceptance).order(uisp.source, kept)
    assert again.state is HookEventState.ORDERED


async def test_sweeper_orders_events_of_processes_that_stopped(
    uisp: Sender, service: UispService, owner: asyncpg.Connection, context: ApiContext, database: Database
) -> None:
    """The CRM sends no repeat, and no later event. An event whose source was removed, or whose key is gone, waits."""
    await uisp.sent(service.event("service.add"))
    await receive_only(owner, service, "service.suspend")
    await receive_only(owner, service, "service.suspend_cancel")
    await receive_only(owner, UispService(), "service.add", source="removed")
    await receive_only(owner, UispService(), "service.add", key_name="gone")
    intake = HookIntake(database, context.acceptance)
    assert await HookSweeper(database, intake).order_received() == 0, "younger events are being mapped"
    assert await HookSweeper(database, intake, age=timedelta()).order_received() == 4
    assert [operation for _, operation in await accepted(owner)] == ["provision", "suspend", "resume"]
    assert len(await list_events(database, states=[HookEventState.RECEIVED])) == 2


async def test_event_that_cannot_be_mapped_is_kept_until_an_edit_repairs_it(
    uisp: Sender, service: UispService, database: Database
) -> None:
    kept = await uisp.sent(service.event("service.add", attributes=[]))
    assert (kept["state"], kept["orders"]) == ("failed", [])
    assert "lacks the custom attribute onuSerial" in kept["reason"]
    invalid = await uisp.sent(service.event("service.add", servicePlanName="Ok", downloadSpeed=9_000_000))
    assert "provision order would be invalid: plan.download_kbps: must be at most" in invalid["reason"]
    assert [event.state for event in await list_events(database)] == [HookEventState.FAILED] * 2
    assert (await uisp.sent(service.event("service.edit")))["state"] == "ordered"
    again = await uisp.sent(service.event("service.add", attributes=[]))
    assert again["reason"] == "The subscriber has a line already."


async def test_order_that_is_refused_keeps_its_event(
    uisp: Sender, context: ApiContext, database: Database, owner: asyncpg.Connection, service: UispService
) -> None:
    later = await uisp.sent(service.event("service.add", status=0, activeFrom="2099-01-01T00:00:00+0000"))

    async def scheduled() -> bool:
        return bool(await owner.fetchval("SELECT count(*) FROM accepted_orders WHERE state = 'scheduled'"))

    await until(scheduled)
    await context.temporal.orders.scheduled.cancel("acme", later["orders"][0].rpartition("/")[2])
    kept = await uisp.sent(service.event("service.edit"))
    assert (kept["state"], service.ref in kept["reason"]) == ("failed", True), kept
    assert [event.event for event in await list_events(database)] == ["service.edit"]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"params": {"token": "wrong"}},
        {"headers": {"Authorization": "Bearer wrong"}},
        {"headers": {"Authorization": "Basic é".encode()}},
    ],
)
async def test_request_without_the_secret_is_unauthorized_and_leaves_nothing(
    uisp: Sender, service: UispService, owner: asyncpg.Connection, database: Database, request_: dict[str, Any]
) -> None:
    for path in ("/hooks/crm", "/hooks/unknown"):
        answer = await uisp.api.post(path, json=service.event("service.end"), **request_)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
        assert answer.headers["www-authenticate"] == 'Basic realm="lastmile hooks"'
    api_key = authorization(await make_api_key(database))
    assert (await uisp.api.post("/hooks/crm", json={}, headers=api_key)).status_code == 401
    assert await owner.fetchval("SELECT count(*) FROM hook_events") == 0


async def test_source_that_signs_needs_the_signature_of_each_body(
    context: ApiContext, database: Database, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API and the command have encryption keys: the secret is stored encrypted, since a signature needs it."""
    mapping = documented_mapping()
    monkeypatch.setitem(cast(dict[str, Mapping], MAPPINGS), mapping.name, mapping)
    new = NewHookSource(source="signed", tenant="acme", mapping="example", secret="made-by-the-example-crm")
    await add_source(database, new, RING, actor="")
    assert b"made-by" not in await owner.fetchval("SELECT secret FROM hook_sources")
    body = b'{"id": "e1", "type": "paid", "contract": "S-1"}'
    signature = "sha256=" + hmac.new(b"made-by-the-example-crm", body, "sha256").hexdigest()
    settings = Settings(encryption_keys=SecretStr(KEYS))
    transport = httpx.ASGITransport(create_app(replace(context, settings=settings)))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
        for sent, status in ((body, 202), (body.replace(b"S-1", b"S-2"), 401)):
            answer = await api.post("/hooks/signed", content=sent, headers={"X-Signature": signature})
            assert answer.status_code == status, answer.text
        answer = await api.post("/hooks/signed?token=made-by-the-example-crm", content=body)
        assert answer.status_code == 401
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(context)), base_url="http://api") as api:
        without_keys = await api.post("/hooks/signed", content=body, headers={"X-Signature": signature})
        assert without_keys.status_code == 503
        assert "Set LASTMILE_ENCRYPTION_KEYS" in without_keys.json()["detail"]


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"\xff", 400), (b"[" * 100_000, 400), (b"[]", 422), (b'"\\ud800"', 422), (b"1" * 5000, 400)],
)
async def test_body_that_is_no_json_object_is_refused(uisp: Sender, content: bytes, status: int) -> None:
    answer = await uisp.api.post("/hooks/crm", params={"token": uisp.secret}, content=content)
    assert answer.status_code == status, answer.text


async def test_hostile_event_is_kept_or_ignored_and_never_a_fault(uisp: Sender, owner: asyncpg.Connection) -> None:
    half = "\\ud800\\u0000"
    for content in (
        '{"eventName": "service.add"}',
        f'{{"eventName": "{half}", "uuid": "{half}", "entity": "service", "entityId": {"9" * 400}}}',
        f'{{"eventName": "service.add", "uuid": "{"a" * 36}", "entity": "service", "entityId": 1, "extraData": '
        f'{{"entity": {{"status": "{half}", "clientId": 1}}}}}}',
        f'{{"eventName": "service.add", "uuid": "{"b" * 36}", "entity": "service", "entityId": 1, "extraData": '
        f'{{"entity": {{"status": 1, "clientId": 1, "servicePlanName": "x", "downloadSpeed": 1, "uploadSpeed": 1, '
        f'"attributes": [7, {{"key": "onuSerial", "value": "{half}"}}, {{"key": "olt", "value": {{}}}}]}}}}}}',
    ):
        answer = await uisp.api.post("/hooks/crm", params={"token": uisp.secret}, content=content)
        assert answer.status_code == 202, answer.text
    assert await owner.fetchval("SELECT count(*) FROM hook_events WHERE state IN ('failed', 'ignored')") == 4


async def test_database_that_is_away_is_answered_with_503(context: ApiContext, service: UispService) -> None:
    away = Database("postgresql://nobody:x@127.0.0.1:1/none")
    transport = httpx.ASGITransport(create_app(replace(context, database=away)))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
        answer = await api.post("/hooks/crm?token=x", json=service.event("service.add"))
    await away.close()
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), answer.text


async def test_body_of_a_kept_event_is_encrypted_where_there_are_keys(
    database: Database, context: ApiContext, service: UispService, owner: asyncpg.Connection
) -> None:
    source, _ = await uisp_source(database)
    sealed = HookIntake(database, context.acceptance, RING)
    body = service.event("service.suspend", note="Ada Lovelace")
    kept = (await sealed.receive(source, body, json.dumps(body).encode())).event
    assert kept.state is HookEventState.FAILED
    assert b"Ada Lovelace" not in await owner.fetchval("SELECT body FROM hook_events")
    with pytest.raises(DecryptionError, match="LASTMILE_ENCRYPTION_KEYS"):
        await HookIntake(database, context.acceptance).order(source, kept)
    assert (await sealed.order(source, kept)).state is HookEventState.FAILED


@pytest.fixture
async def working(context: ApiContext, temporal_client: Client) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of an API whose orders a worker with its sweeper runs."""
    settings = Settings(task_queue=f"test-{uuid.uuid4().hex}")
    temporal = OperatorClient(temporal_client, settings.task_queue)
    async with (
        RunningWorker(temporal_client, settings, context.database),
        AcceptedOrderSweeper(context.database, temporal.orders, age=timedelta()),
        OrderAcceptance(context.database, temporal.orders) as acceptance,
    ):
        app = create_app(replace(context, settings=settings, temporal=temporal, acceptance=acceptance))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as api:
            yield api


async def test_suspend_and_its_cancel_10_ms_apart_end_in_service(
    working: httpx.AsyncClient, database: Database, owner: asyncpg.Connection
) -> None:
    uisp = Sender(working, *await uisp_source(database))
    reader = authorization(await make_api_key(database))

    async def ended(receipt: dict[str, Any]) -> str:
        (path,) = receipt["orders"]

        async def status() -> str:
            found = str((await working.get(path, headers=reader)).json()["status"])
            return found if found in ("completed", "degraded", "refused", "rolled_back") else ""

        return str(await until(status))

    service = UispService()
    assert await ended(await uisp.sent(service.event("service.add"))) == "completed"
    for _ in range(ROUNDS):
        suspend = asyncio.create_task(uisp.sent(service.event("service.suspend")))
        await asyncio.sleep(0.01)  # the pause between the two requests of UISP
        cancel = await uisp.sent(service.event("service.suspend_cancel"))
        assert [await ended(await suspend), await ended(cancel)] == ["completed", "completed"]
    suspensions = await owner.fetch("SELECT ended_at IS NOT NULL AS ended FROM suspensions")
    assert [row["ended"] for row in suspensions] == [True] * ROUNDS
    assert await owner.fetchval("SELECT status FROM billing_services") == "active"
