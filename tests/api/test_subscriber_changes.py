"""Conditional requests, and the change of a customer: no caller overwrites what it has not seen, and no order."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from lastmile.api.auth.permissions import Permission
from lastmile.db import Database
from tests.support.api_keys import authorization, make_api_key
from tests.support.audited_env import AuditedEnv

LINE = "/v1/subscribers/S-1"


@pytest.fixture
async def acme(api: httpx.AsyncClient, database: Database, lines: AuditedEnv) -> httpx.AsyncClient:
    """Return a client of an API with the lines S-1 and S-2, which one customer pays for."""
    api.headers.update(authorization(await make_api_key(database)))
    return api


async def tag(api: httpx.AsyncClient, path: str = LINE, **headers: str) -> str:
    """Return the ETag of the record."""
    answer = await api.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["etag"]


async def change(
    api: httpx.AsyncClient, if_match: str | None, path: str = LINE, key: str = "", **customer: Any
) -> httpx.Response:
    headers = {} if if_match is None else {"If-Match": if_match}
    headers |= {"Idempotency-Key": key} if key else {}
    return await api.patch(path, json={"customer": customer}, headers=headers)


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_read_with_the_etag_of_the_record_is_not_modified(acme: httpx.AsyncClient, lines: AuditedEnv) -> None:
    first = await tag(acme)
    for known in (first, f"W/{first}", f'"x", {first}', "*"):
        answer = await acme.get(LINE, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", first), known
    await lines.suspend(1)
    assert await tag(acme, **{"If-None-Match": first}) != first


async def test_etag_is_that_of_what_the_caller_may_read(acme: httpx.AsyncClient, database: Database) -> None:
    other = await make_api_key(database, set(Permission) - {Permission.SUBSCRIBERS_PERSONAL})
    assert await tag(acme, **authorization(other)) != await tag(acme)


async def test_change_with_the_etag_of_the_read_holds_for_all_lines_of_the_customer(
    acme: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    before = await tag(acme)
    changed = await change(acme, before, name="Ada King", email=None)
    assert changed.status_code == 200, changed.text
    customer = {"ref": "C-1", "name": "Ada King", "email": None, "phone": None}
    assert changed.json()["customer"] == customer == (await acme.get("/v1/subscribers/S-2")).json()["customer"]
    assert changed.headers["etag"] == await tag(acme) != before
    problem(await change(acme, before, name="Ada Byron"), 412, "changed-meanwhile")
    assert (await change(acme, "*", phone="+44 20 7946 0000")).json()["customer"]["phone"] == "+44 20 7946 0000"
    entry = await owner.fetchrow("SELECT * FROM audit_log WHERE record = 'customers' ORDER BY id DESC LIMIT 1")
    assert (entry["subscriber_ref"], entry["actor"][:8]) == ("S-1", "api-key/")
    assert entry["after"] == '{"phone": "+44 20 7946 0000"}'


async def test_change_without_the_etag_of_the_record_changes_nothing(acme: httpx.AsyncClient) -> None:
    before = await tag(acme)
    for if_match, status, slug in (
        (None, 428, "precondition-required"),
        ('"other"', 412, "changed-meanwhile"),
        (f"W/{before}", 412, "changed-meanwhile"),
        ("abc", 422, "invalid"),
        ('"a" "b"', 422, "invalid"),
        ("", 422, "invalid"),
    ):
        problem(await change(acme, if_match, name="Eve"), status, slug)
    assert await tag(acme) == before


async def test_one_of_many_changes_of_one_state_succeeds(acme: httpx.AsyncClient) -> None:
    before = await tag(acme)
    answers = await asyncio.gather(*(change(acme, before, name=f"Ada {number}") for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    (won,) = (answer for answer in answers if answer.status_code == 200)
    assert (await acme.get(LINE)).json()["customer"] == won.json()["customer"]


async def test_change_sent_again_with_its_key_is_made_once_and_keeps_no_personal_data(
    acme: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    before = await tag(acme)
    first = await change(acme, before, key="k-1", name="Ada King")
    again = await change(acme, before, key="k-1", name="Ada King")
    assert (again.status_code, again.json(), again.headers["idempotent-replay"]) == (200, first.json(), "true")
    problem(await change(acme, "*", key="k-1", name="Eve"), 422, "idempotency-key-reused")
    assert await owner.fetchval("SELECT body FROM idempotency_keys") == b""


async def test_change_waits_for_the_order_that_is_correcting_the_customer(
    acme: httpx.AsyncClient, lines: AuditedEnv
) -> None:
    """The order is that of another line, and gives the same name: its rollback cannot tell the name from its own."""
    order = await lines.update_customer(2, ends=None, name="Ada King")
    busy = problem(await change(acme, "*", name="Ada King"), 409, "subscriber-busy")
    assert "Order U-2 is correcting customer C-1" in busy["detail"]
    await lines.undo_update_customer(order)
    assert (await acme.get(LINE)).json()["customer"]["name"] == "Ada"
    assert (await change(acme, "*", name="Ada King")).status_code == 200


async def test_wrong_change_is_refused_with_every_mistake(acme: httpx.AsyncClient) -> None:
    wrong: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {"/customer"}),
        ({"name": None}, {"/customer"}),
        ({"email": "ada", "tags": []}, {"/customer/email", "/customer/tags"}),
    ]
    for customer, pointers in wrong:
        found = problem(await change(acme, "*", **customer), 422, "invalid")
        assert {error["pointer"] for error in found["errors"]} == pointers


async def test_archived_and_unknown_subscribers_are_not_changed(
    acme: httpx.AsyncClient, lines: AuditedEnv, database: Database
) -> None:
    await lines.deprovision(1)
    archived = problem(await change(acme, "*", name="Eve"), 409, "wrong-state")
    assert "S-1 is archived" in archived["detail"]
    problem(await change(acme, "*", "/v1/subscribers/S-9", name="Eve"), 404, "unknown-subscriber")
    acme.headers.update(authorization(await make_api_key(database, tenant="other")))
    problem(await change(acme, "*", "/v1/subscribers/S-2", name="Eve"), 404, "unknown-subscriber")
