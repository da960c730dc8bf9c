"""The metrics of requests: by the class of their route, and refusals by their reason."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import REGISTRY

from lastmile.api.auth.requirements import GuardedRoute
from lastmile.db import Database
from lastmile.services.api_keys import PrincipalKind
from tests.support.api_keys import authorization, make_api_key

COUNT = "lastmile_api_request_duration_seconds_count"
SAMPLES = APIRouter(prefix="/samples", tags=["samples"], route_class=GuardedRoute)


@SAMPLES.get("/stream", response_class=EventSourceResponse)
async def stream() -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(data="one")


@SAMPLES.post("/wait")
async def wait(response: Response) -> None:
    response.headers["Preference-Applied"] = "wait=5"


def classes_of(route: str) -> set[str]:
    """Return the classes with which requests of the route were counted."""
    return {
        sample.labels["route_class"]
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == COUNT and sample.labels["route"] == route
    }


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/healthz", "page"),
        ("GET", "/docs", "page"),
        ("GET", "/v1/orders", "read"),
        ("POST", "/v1/orders", "write"),
        ("GET", "/samples/stream", "stream"),
        ("POST", "/samples/wait", "wait"),
    ],
)
async def test_request_is_counted_with_the_class_of_its_route(
    api: httpx.AsyncClient, app: FastAPI, method: str, path: str, expected: str
) -> None:
    app.include_router(SAMPLES)
    await api.request(method, path)
    assert expected in classes_of(path)


async def test_request_of_an_unknown_path_is_counted_without_the_path(api: httpx.AsyncClient) -> None:
    await api.get("/nothing")
    assert classes_of("/nothing") == set()
    assert classes_of("other") == {"other"}


async def test_refusals_are_counted_by_tenant_and_reason(api: httpx.AsyncClient, database: Database) -> None:
    def refused(tenant: str, reason: str) -> float:
        labels = {"tenant": tenant, "reason": reason}
        return REGISTRY.get_sample_value("lastmile_api_refusals_total", labels) or 0

    before = refused("unknown", "token"), refused("acme", "permission"), refused("acme", "rate")
    await api.get("/v1/orders")
    await api.get("/v1/orders", headers={"Authorization": "Bearer none"})
    person = authorization(await make_api_key(database, {"audit:read"}, kind=PrincipalKind.PERSON))
    answers = [await api.get("/v1/orders", headers=person)]
    while answers[-1].status_code == 403:  # the rate lets a further one through every 0.6 s
        answers.append(await api.get("/v1/orders", headers=person))
    assert answers[-1].status_code == 429
    assert len(answers) > 100
    after = refused("unknown", "token"), refused("acme", "permission"), refused("acme", "rate")
    assert [new - old for old, new in zip(before, after, strict=True)] == [2, len(answers) - 1, 1]
