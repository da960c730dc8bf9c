"""`Idempotency-Key`: one effect for a request that is sent again, in one transaction with its stored answer."""

import asyncio
import json
from datetime import timedelta
from typing import Annotated

import asyncpg
import httpx
import pytest
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import text
from starlette.responses import Response

from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import requires
from lastmile.api.auth.tenants import TenantQuery, one_tenant, transaction
from lastmile.api.context import Context
from lastmile.api.idempotency import Answer, IdempotencyKey, answer_once, idempotency_key
from lastmile.audit.retention import purge
from lastmile.db import Database
from tests.support.api_keys import authorization, make_api_key

INSERT = text("INSERT INTO given_passwords VALUES (:tenant, gen_random_uuid(), 'test', '') RETURNING order_id")


class Thing(BaseModel):
    """What the test creates."""

    name: str


class Effects:
    """Holds effects back, and lets them fail."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.begun = asyncio.Event()
        self.failing = False


@pytest.fixture
def effects(app: FastAPI) -> Effects:
    """Give the application a route whose effect is a row."""
    effects = Effects()

    @app.post("/things")
    async def create(
        context: Context,
        principal: Annotated[Principal, requires(Permission.ORDERS_WRITE)],
        key: Annotated[IdempotencyKey | None, Depends(idempotency_key)],
        body: Thing,
        tenant: TenantQuery = None,
    ) -> Response:
        of_tenant = one_tenant(principal, tenant)
        async with transaction(context.database, principal, of_tenant) as connection:

            async def effect() -> Answer:
                insert = (
                    "INSERT INTO given_passwords VALUES (:tenant, gen_random_uuid(), 'test', '') RETURNING order_id"
                )
                made = await connection.scalar(text(insert), {"tenant": of_tenant})
                effects.begun.set()
                await effects.go.wait()
                if effects.failing:
                    raise RuntimeError
                return Answer(201, json.dumps({"id": made, "name": body.name}).encode(), f"/things/{made}")

            answer = await answer_once(connection, principal, of_tenant, key, effect)
        return Response(answer.body, answer.status, answer.headers, "application/json")

    return effects


@pytest.fixture
async def caller(api: httpx.AsyncClient, effects: Effects, database: Database) -> httpx.AsyncClient:
    """Return a client with an API key."""
    api.headers.update(authorization(await make_api_key(database)))
    return api


async def create(caller: httpx.AsyncClient, key: str = "k-1", name: str = "a", **others: object) -> httpx.Response:
    return await caller.post("/things", json={"name": name}, headers={"Idempotency-Key": key}, **others)


async def count(owner: asyncpg.Connection) -> int:
    return int(await owner.fetchval("SELECT count(*) FROM given_passwords"))


async def test_same_request_again_gets_the_stored_answer(caller: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    first, again = await create(caller), await create(caller)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    assert await count(owner) == 1
    await create(caller, "k-2")
    assert (await caller.post("/things", json={"name": "a"})).status_code == 201
    assert await count(owner) == 3


async def test_same_key_with_another_request_is_refused(caller: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    await create(caller)
    for others in ({"name": "b"}, {"params": {"tenant": "acme"}}):
        refused = await create(caller, **others)
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert await count(owner) == 1


async def test_same_key_of_another_caller_is_another_key(
    caller: httpx.AsyncClient, database: Database, owner: asyncpg.Connection
) -> None:
    await create(caller)
    for tenant in ("acme", "other"):
        caller.headers.update(authorization(await make_api_key(database, tenant=tenant)))
        assert "idempotent-replay" not in (await create(caller)).headers
    caller.headers.update(authorization(await make_api_key(database, tenant=None)))
    for tenant in ("acme", "other"):
        assert "idempotent-replay" not in (await create(caller, params={"tenant": tenant})).headers
    assert await count(owner) == 5


async def test_request_that_is_still_running_is_refused(
    caller: httpx.AsyncClient, effects: Effects, owner: asyncpg.Connection
) -> None:
    effects.go.clear()
    first = asyncio.create_task(create(caller))
    await effects.begun.wait()
    refused = await create(caller)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")
    assert "still running" in refused.json()["detail"]
    effects.go.set()
    assert (await first).status_code == 201
    assert (await create(caller)).headers["idempotent-replay"] == "true"
    assert await count(owner) == 1


async def test_concurrent_requests_have_one_effect(caller: httpx.AsyncClient, owner: asyncpg.Connection) -> None:
    answers = await asyncio.gather(*(create(caller) for _ in range(30)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    made = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.json()["id"] for answer in made}) == await count(owner) == 1


async def test_request_that_fails_can_be_sent_again(
    caller: httpx.AsyncClient, effects: Effects, owner: asyncpg.Connection
) -> None:
    effects.failing = True
    assert (await create(caller)).status_code == 500
    assert (await count(owner), await owner.fetchval("SELECT count(*) FROM idempotency_keys")) == (0, 0)
    effects.failing = False
    assert "idempotent-replay" not in (await create(caller)).headers


async def test_stored_answer_is_kept_for_24_hours(
    caller: httpx.AsyncClient, database: Database, owner: asyncpg.Connection
) -> None:
    async def clean_up(age: str) -> None:
        await owner.execute("UPDATE idempotency_keys SET created_at = now() - CAST($1::text AS interval)", age)
        async with database.platform() as connection:
            await purge(connection, timedelta(days=365), batch=10)

    await create(caller)
    await clean_up("23 hours 59 minutes")
    assert "idempotent-replay" in (await create(caller)).headers
    await clean_up("24 hours 1 minute")
    assert "idempotent-replay" not in (await create(caller)).headers


@pytest.mark.parametrize("key", ["", "a b", "k" * 256, "\x80"])
async def test_key_that_is_not_visible_ascii_is_refused(
    caller: httpx.AsyncClient, owner: asyncpg.Connection, key: str
) -> None:
    refused = await caller.post("/things", json={"name": "a"}, headers={"Idempotency-Key": key.encode("latin-1")})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["parameter"] == "Idempotency-Key"
    assert await count(owner) == 0
