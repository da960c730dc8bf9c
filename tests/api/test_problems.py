"""Failures of requests: each is a problem that says what to do, and none has the words of a library."""

import json
from typing import Annotated, Any, Literal

import httpx
import pytest
from fastapi import APIRouter, Body, FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from temporalio.service import RPCError, RPCStatusCode

from lastmile.api.auth.requirements import GuardedRoute
from lastmile.api.problems import PROBLEM_TYPES
from lastmile.api.requests import LARGEST_BODY
from lastmile.client.errors import AlreadyRunningError
from lastmile.errors import InvalidInputError, LastmileError, NonRetryableError, OutageError
from lastmile.subscribers.errors import LineStateError

JSON = {"Content-Type": "application/json"}


class Inner(BaseModel):
    """A part of a body."""

    vlan: int = Field(ge=1, le=4094)


class Square(BaseModel):
    """One member of a union."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["square"]
    parts: list[Inner]


class Circle(BaseModel):
    """The other member."""

    kind: Literal["circle"]


@pytest.fixture
def echo(app: FastAPI) -> FastAPI:
    """Give the application routes with a union as body, and one that raises an error by name."""
    errors: dict[str, Exception] = {
        "busy": AlreadyRunningError("Order A-1 is running."),
        "state": LineStateError("The line is suspended."),
        "other": NonRetryableError("It does not fit."),
        "input": InvalidInputError("The value is wrong."),
        "outage": OutageError("NetBox is away."),
        "temporal": RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b""),
        "database": ConnectionRefusedError(111, "Connect call failed"),
        "own": LastmileError("secret words"),
        "fault": RuntimeError("secret words"),
    }

    router = APIRouter(route_class=GuardedRoute)

    @router.post("/echo")
    async def echo(
        body: Annotated[Square | Circle, Body(discriminator="kind")], limit: Annotated[int, Query(ge=1)]
    ) -> Any:
        return body

    @app.put("/echo")
    async def replace() -> None: ...

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise errors[name]

    app.include_router(router)
    return app


async def problem_of(answer: httpx.Response, slug: str) -> dict[str, Any]:
    """Check that the answer is this problem, whose page exists; return the body."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"/problems/{slug}", answer.status_code)
    assert PROBLEM_TYPES[slug].status == answer.status_code
    assert body["instance"] == answer.headers["x-request-id"]
    return body


async def test_invalid_body_names_every_value_at_once_with_its_pointer(api: httpx.AsyncClient, echo: FastAPI) -> None:
    sent = {"kind": "square", "parts": [{"vlan": 1}, {"vlan": 5000}, {}], "colour": "red"}
    body = await problem_of(await api.post("/echo?limit=0", json=sent), "invalid")
    assert body["errors"] == [
        {"detail": "must be at least 1, and is '0'", "parameter": "limit"},
        {"detail": "must be at most 4094, and is 5000", "pointer": "/parts/1/vlan"},
        {"detail": "is missing", "pointer": "/parts/2/vlan"},
        {"detail": "Unknown field.", "pointer": "/colour"},
    ]


NO_JSON = {
    b"{": "the mistake is in line 1, column 2",
    b'{\n"kind": square}': "the mistake is in line 2, column 9",
    b"{} {}": "the mistake is in line 1, column 4",
    b"\xff\xfe": "byte 1 is no UTF-8",
    b'{"kind": "\xed\xa0\x80"}': "byte 11 is no UTF-8",
    '{"kind": "square"}'.encode("utf-16"): "byte 1 is no UTF-8",
    b"[" * 100_000: "it is nested too deeply",
    b'{"kind": "square", "kind": "circle"}': 'an object has the name "kind" twice',
    b'{"size": NaN}': "NaN is no number of JSON",
    b'{"size": -Infinity}': "-Infinity is no number of JSON",
    b"1" * 5000: "a number has too many digits",
}


@pytest.mark.parametrize("body", NO_JSON, ids=NO_JSON.values())
async def test_body_that_is_no_json_is_malformed(api: httpx.AsyncClient, echo: FastAPI, body: bytes) -> None:
    answer = await api.post("/echo?limit=1", content=body, headers=JSON)
    said = await problem_of(answer, "malformed")
    assert said["detail"] == f"The body cannot be read as JSON: {NO_JSON[body]}. Send JSON in UTF-8."


@pytest.mark.parametrize(
    "written",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "application/jsonx"],
)
async def test_body_of_another_media_type_is_unsupported(api: httpx.AsyncClient, echo: FastAPI, written: str) -> None:
    answer = await api.post("/echo?limit=1", content=b'{"kind": "circle"}', headers={"Content-Type": written})
    await problem_of(answer, "unsupported-media-type")


@pytest.mark.parametrize("written", ['application/json;charset="UTF-8"', "application/merge-patch+json"])
async def test_body_in_json_of_any_kind_is_read(api: httpx.AsyncClient, echo: FastAPI, written: str) -> None:
    answer = await api.post("/echo?limit=1", content=b'{"kind": "circle"}', headers={"Content-Type": written})
    assert (answer.status_code, answer.json()) == (200, {"kind": "circle"})


async def test_lone_surrogate_in_a_body_is_an_invalid_value(api: httpx.AsyncClient, echo: FastAPI) -> None:
    for sent in (rb'{"kind": "\ud800"}', rb'{"kind": "square", "parts": "\ud800"}'):
        await problem_of(await api.post("/echo?limit=1", content=sent, headers=JSON), "invalid")


async def test_huge_number_in_a_body_is_an_invalid_value(api: httpx.AsyncClient, echo: FastAPI) -> None:
    sent = b'{"kind": "square", "parts": [{"vlan": 1' + b"0" * 400 + b"}]}"
    body = await problem_of(await api.post("/echo?limit=1", content=sent, headers=JSON), "invalid")
    assert [one["pointer"] for one in body["errors"]] == ["/parts/0/vlan"]


@pytest.mark.parametrize("announced", [True, False])
async def test_body_over_the_limit_is_refused(api: httpx.AsyncClient, echo: FastAPI, announced: bool) -> None:
    async def chunks() -> Any:
        for _ in range(LARGEST_BODY // 65_536 + 1):
            yield b" " * 65_536

    content = b" " * (LARGEST_BODY + 1) if announced else chunks()
    await problem_of(await api.post("/echo?limit=1", content=content, headers=JSON), "too-large")


async def test_unknown_path_is_not_found(api: httpx.AsyncClient) -> None:
    assert (await problem_of(await api.get("/nothing"), "not-found"))["detail"] == "Nothing is at /nothing."


async def test_wrong_method_names_all_methods_of_the_path(api: httpx.AsyncClient, echo: FastAPI) -> None:
    answer = await api.delete("/echo")
    await problem_of(answer, "method-not-allowed")
    assert answer.headers["allow"] == "POST, PUT"
    own = await api.delete("/v1/orders/O-1")
    assert (await problem_of(own, "method-not-allowed"))["detail"] == "/v1/orders/O-1 takes GET, PATCH, not DELETE."


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("busy", "subscriber-busy"),
        ("state", "wrong-state"),
        ("other", "conflict"),
        ("input", "invalid"),
        ("outage", "unavailable"),
        ("temporal", "unavailable"),
        ("own", "fault"),
        ("fault", "fault"),
    ],
)
async def test_error_is_the_problem_of_its_class(api: httpx.AsyncClient, echo: FastAPI, name: str, slug: str) -> None:
    answer = await api.get(f"/raise/{name}")
    await problem_of(answer, slug)
    assert "secret" not in answer.text
    assert "tcp" not in answer.text
    assert ("retry-after" in answer.headers) == (slug == "unavailable")


async def test_every_problem_has_a_page_that_says_what_to_do(api: httpx.AsyncClient) -> None:
    for kind in PROBLEM_TYPES.values():
        page = await api.get(kind.path)
        assert page.status_code == 200
        assert kind.remedy.split("<")[0] in page.text
    await problem_of(await api.get("/problems/unheard-of"), "not-found")


async def test_request_keeps_a_sound_id_and_replaces_another(api: httpx.AsyncClient) -> None:
    assert (await api.get("/healthz", headers={"X-Request-ID": "crm-17"})).headers["x-request-id"] == "crm-17"
    forged = await api.get("/healthz", headers={"X-Request-ID": "a b"})
    assert forged.headers["x-request-id"] not in ("", "a b")


async def test_reference_page_uses_only_assets_of_this_server(api: httpx.AsyncClient) -> None:
    page = (await api.get("/docs")).text
    assert "//" not in page.replace("<!doctype", "")
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/docs/{asset}" in page
        assert (await api.get(f"/docs/{asset}")).status_code == 200
    await problem_of(await api.get("/docs/..%2fapp.py"), "not-found")
    document = json.loads((await api.get("/openapi.json")).text)
    assert document["openapi"].startswith("3.1")
    assert "HTTPValidationError" not in json.dumps(document)
