"""Who may do what: every route of the application, without a token, without its permission, and for another tenant."""

from collections.abc import Iterator
from inspect import isasyncgenfunction, iscoroutinefunction, isroutine
from typing import Annotated, Any

import asyncpg
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from sqlalchemy import text

from lastmile.api.auth.permissions import Permission
from lastmile.api.auth.principal import Principal
from lastmile.api.auth.requirements import GuardedRoute, protected, public, requires, undeclared
from lastmile.api.auth.tenants import TenantQuery, one_tenant, one_tenant_or_all, transaction
from lastmile.api.context import Context
from lastmile.api.rate_limits import RateClass
from lastmile.db import Database
from lastmile.services.api_keys import CreatedKey, PrincipalKind
from tests.support.api_keys import authorization, make_api_key

Reader = Annotated[Principal, requires(Permission.ORDERS_READ)]
Writer = Annotated[Principal, requires(Permission.ORDERS_WRITE)]
JSON = {"Content-Type": "application/json"}
"""Of a body that is no JSON: a caller hears of it once it may send one."""
SAMPLES = APIRouter(prefix="/samples", route_class=GuardedRoute)


@SAMPLES.get("/own")
async def own(principal: Annotated[Principal, requires(None)]) -> str:
    return principal.subject


@SAMPLES.get("/names")
async def names(context: Context, principal: Reader, tenant: TenantQuery = None) -> list[str]:
    async with transaction(context.database, principal, one_tenant_or_all(principal, tenant)) as connection:
        return list(await connection.scalars(text("SELECT id FROM tenants ORDER BY id")))


@SAMPLES.post("/names")
async def rename(context: Context, principal: Writer, tenant: TenantQuery = None) -> None:
    async with transaction(context.database, principal, one_tenant(principal, tenant), request_id="r-1") as connection:
        insert = text("INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES (:t, 'C-1', 'Ada', 'o')")
        await connection.execute(insert, {"t": one_tenant(principal, tenant)})


@SAMPLES.get("/jobs")
async def jobs(principal: Annotated[Principal, requires(Permission.ORDERS_READ, RateClass.BULK)]) -> None: ...


@pytest.fixture
def app(app: FastAPI) -> FastAPI:
    """Add sample routes: one with each kind of declaration."""
    app.include_router(SAMPLES)
    return app


def requests(app: FastAPI) -> list[tuple[str, str, Permission | None]]:
    """Return the method, an example of the path and the permission of every route that is not public."""
    return [
        (method, example_of(route), requirement.permission)
        for route, requirement in protected(app)
        for method in sorted(route.methods or ())
    ]


def example_of(route: RouteContext) -> str:
    """Return the path with a value for each parameter."""
    return "/".join("x" if part.startswith("{") else part for part in (route.path or "").split("/"))


def test_every_route_declares_one_requirement_or_that_it_is_public(app: FastAPI) -> None:
    assert undeclared(app) == ["GET HEAD /openapi.json"]  # of the framework, and public


def test_route_without_a_declaration_is_found(app: FastAPI) -> None:
    router = APIRouter()

    @router.get("/forgotten")
    async def forgotten() -> None: ...

    @router.get("/twice", dependencies=[Depends(public)])
    async def twice(principal: Reader) -> None: ...

    @router.get("/unguarded")
    async def unguarded(principal: Reader) -> None: ...

    app.include_router(router, prefix="/v1")
    assert undeclared(app)[1:] == ["GET /v1/forgotten", "GET /v1/twice", "GET /v1/unguarded"]


async def test_every_route_without_a_token_is_unauthorized(api: httpx.AsyncClient, app: FastAPI) -> None:
    for method, path, _ in requests(app):
        answer = await api.request(method, path, content=b"{", headers=JSON)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized"), path
        assert answer.headers["www-authenticate"] == 'Bearer realm="lastmile"', path


async def test_every_route_with_every_other_permission_is_forbidden(
    api: httpx.AsyncClient, app: FastAPI, database: Database
) -> None:
    keys = {one: await make_api_key(database, set(Permission) - {one}) for one in Permission}
    for method, path, permission in requests(app):
        if permission is None:
            continue
        answer = await api.request(method, path, content=b"{", headers=JSON | authorization(keys[permission]))
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden"), path
        challenge = f'Bearer realm="lastmile", error="insufficient_scope", scope="{permission}"'
        assert answer.headers["www-authenticate"] == challenge, path


async def test_route_for_any_caller_needs_a_key_and_no_permission(api: httpx.AsyncClient, database: Database) -> None:
    key = await make_api_key(database, {"orders:read"})
    answer = await api.get("/samples/own", headers=authorization(key))
    assert (answer.status_code, answer.json()) == (200, f"api-key/{key.api_key.id}")
    assert answer.headers["ratelimit-policy"] == '"system";q=600;w=60'


@pytest.mark.parametrize("written", ["Bearer", "Bearer ", "Bearer x", f"Bearer lm_{'0' * 12}_{'0' * 64}", "Bearer é"])
async def test_invalid_token_is_unauthorized_with_the_error(api: httpx.AsyncClient, written: str) -> None:
    answer = await api.get("/samples/own", headers={"Authorization": written.encode()})
    assert answer.status_code == 401
    has_token = written.strip() != "Bearer"
    assert ('error="invalid_token"' in answer.headers["www-authenticate"]) == has_token


async def test_token_of_another_scheme_or_place_is_no_token(api: httpx.AsyncClient, database: Database) -> None:
    key = (await make_api_key(database)).text
    answers = [
        await api.get("/samples/own", headers={"Authorization": f"Basic {key}"}),
        await api.get("/samples/own", headers={"X-API-Key": key}),
        await api.get("/samples/own", params={"access_token": key}),
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 401]


async def test_tenant_of_the_key_decides_what_is_seen(api: httpx.AsyncClient, database: Database) -> None:
    async def seen(key: CreatedKey, **query: str) -> object:
        answer = await api.get("/samples/names", params=query, headers=authorization(key))
        return answer.json() if answer.status_code == 200 else answer.json()["type"]

    acme, platform = await make_api_key(database), await make_api_key(database, tenant=None)
    assert await seen(acme) == await seen(acme, tenant="acme") == await seen(platform, tenant="acme") == ["acme"]
    assert await seen(acme, tenant="other") == "/problems/wrong-tenant"
    assert await seen(platform) == ["acme", "other"]
    assert await seen(platform, tenant="nobody") == []
    assert await seen(platform, tenant="a'b") == "/problems/invalid"


async def test_write_of_a_platform_key_needs_a_tenant(
    api: httpx.AsyncClient, database: Database, owner: asyncpg.Connection
) -> None:
    key = await make_api_key(database, tenant=None)
    refused = await api.post("/samples/names", headers=authorization(key))
    assert (refused.status_code, refused.json()["errors"]) == (422, [{"detail": "is missing", "parameter": "tenant"}])
    assert (await api.post("/samples/names?tenant=other", headers=authorization(key))).status_code == 200
    entry = await owner.fetchrow("SELECT tenant_id, actor, order_id FROM audit_log WHERE record = 'customers'")
    assert tuple(entry) == ("other", f"api-key/{key.api_key.id}", "r-1")


async def test_caller_beyond_its_rate_is_told_when_to_come_back(
    app: FastAPI, api: httpx.AsyncClient, database: Database
) -> None:
    person = authorization(await make_api_key(database, {"orders:read"}, kind=PrincipalKind.PERSON))
    system = authorization(await make_api_key(database, {"orders:read"}))
    answers = [await api.get("/samples/jobs", headers=person) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert answers[0].headers["ratelimit"] == '"bulk";r=9;t=360'
    refused = answers[-1]
    assert refused.json()["type"] == "/problems/too-many-requests"
    assert 350 < int(refused.headers["retry-after"]) <= 360
    assert refused.headers["ratelimit"] == f'"bulk";r=0;t={refused.headers["retry-after"]}'
    assert (await api.get("/samples/names", headers=person)).status_code == 200, "another class"
    assert [(await api.get("/samples/jobs", headers=system)).status_code for _ in range(11)] == [200] * 11


async def test_refused_permission_counts_against_the_rate(api: httpx.AsyncClient, database: Database) -> None:
    person = authorization(await make_api_key(database, {"audit:read"}, kind=PrincipalKind.PERSON))
    answers = [await api.get("/samples/jobs", headers=person) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [403] * 10 + [429]
    assert answers[0].headers["ratelimit"] == '"bulk";r=9;t=360'


def test_no_route_and_no_dependency_runs_in_a_thread(app: FastAPI) -> None:
    """A thread would wait for the interpreter's lock, some milliseconds beside a busy event loop."""
    calls = {call for route in iter_route_contexts(app.routes) for call in calls_of(getattr(route, "dependant", None))}
    assert len(calls) > 20
    assert [call for call in calls if not (iscoroutinefunction(call) or isasyncgenfunction(call))] == []


def calls_of(dependant: Dependant | None) -> Iterator[Any]:
    """Yield the function of a route and those of its dependencies; of an object, its `__call__`."""
    if dependant is not None:
        yield dependant.call if isroutine(dependant.call) else dependant.call.__call__
        for inner in dependant.dependencies:
            yield from calls_of(inner)
