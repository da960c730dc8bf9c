"""The time that a request may take, and clients that are too slow."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import asyncpg
import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import text
from starlette.responses import StreamingResponse

from lastmile.api.app import create_app
from lastmile.api.auth.requirements import GuardedRoute
from lastmile.api.context import ApiContext, Context
from lastmile.api.http_protocol import HttpProtocol
from lastmile.api.requests import TimeLimits
from lastmile.api.serve import http_server
from tests.support.http_requests import ask, serving
from tests.support.processes import until

Client = httpx.AsyncClient
SLOW = "slow statement of the test"


class Impatient(HttpProtocol):
    """A connection with short limits."""

    head_seconds = 0.1
    read_seconds = 0.1


@pytest.fixture
def released() -> asyncio.Event:
    """Return the event that the sample routes wait for."""
    return asyncio.Event()


@pytest.fixture
def slow(context: ApiContext, released: asyncio.Event) -> Callable[[TimeLimits], Client]:
    """Return a maker of clients of an application with sample routes and these limits."""
    router = APIRouter(route_class=GuardedRoute)

    @router.get("/statement")
    async def statement(context: Context) -> None:
        async with context.database.platform() as connection:
            await connection.execute(text(f"SELECT pg_sleep(60) /* {SLOW} */"))

    @router.get("/released")
    async def wait() -> str:
        await released.wait()
        return "released"

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first,"
            await released.wait()
            yield b"last"

        return StreamingResponse(chunks())

    @router.post("/body")
    async def read(body: dict[str, int]) -> None: ...

    def client(limits: TimeLimits) -> Client:
        app = create_app(context, limits)
        app.include_router(router)
        return Client(transport=httpx.ASGITransport(app), base_url="http://api")

    return client


async def test_request_over_its_time_is_answered_and_its_statement_cancelled(
    slow: Callable[[TimeLimits], Client], owner: asyncpg.Connection
) -> None:
    async with slow(TimeLimits(answer=0.3)) as api:
        answer = await api.get("/statement")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/timeout")
    assert answer.headers["retry-after"] == "5"

    async def is_cancelled() -> bool:
        running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"
        return bool(await owner.fetchval(running, f"SELECT pg_sleep%{SLOW}%") == 0)

    await until(is_cancelled)


async def test_request_that_prefers_to_wait_has_more_time(
    slow: Callable[[TimeLimits], Client], released: asyncio.Event
) -> None:
    async with slow(TimeLimits(answer=0.2)) as api:
        patient = asyncio.create_task(api.get("/released", headers={"Prefer": "wait=5"}))
        assert (await api.get("/released")).status_code == 503
        released.set()
        assert (await patient).json() == "released"


async def test_answer_that_has_begun_may_last(slow: Callable[[TimeLimits], Client], released: asyncio.Event) -> None:
    async with slow(TimeLimits(answer=0.2)) as api:
        stream = asyncio.create_task(api.get("/stream"))
        assert (await api.get("/released")).status_code == 503
        released.set()
        assert (await stream).text == "first,last"


async def test_body_that_does_not_come_is_a_timeout_of_the_request(
    slow: Callable[[TimeLimits], Client], released: asyncio.Event
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await released.wait()

    async with slow(TimeLimits(body=0.1)) as api:
        answer = await api.post("/body", content=body(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (408, "/problems/request-timeout")
    assert answer.headers["connection"] == "close"


async def test_connection_of_a_slow_client_is_closed(context: ApiContext) -> None:
    server = http_server(context)
    server.config.http = Impatient
    async with serving(server) as port:
        status, _, body = await ask(port, b"GET /healthz HTTP/1.1\r\nHost: a")
        assert (status, json.loads(body)["type"]) == (408, "/problems/request-timeout")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"", "a connection without a request"
        writer.close()
        _, deaf = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        for _ in range(8):
            deaf.write(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: api\r\n\r\n")

        async def is_open() -> bool:
            return bool(server.server_state.connections)

        async def is_closed() -> bool:
            return not server.server_state.connections

        await until(is_open)
        await until(is_closed)
        deaf.close()
