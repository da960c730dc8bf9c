"""The REST API over HTTP: accepted orders, pages of a long list, and many listeners."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import count, cycle
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from bench.copies import SETTLE, as_owner
from bench.measurements import Measurement, Target, at_most
from bench.orders import provision_order
from bench.rounds import Measured, Turn, each, medians, rate
from ipam.pools import Pool, add_pool
from lastmile.api.auth.permissions import Permission
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.db.database import PLATFORM_ROLE, TENANT_ROLE
from lastmile.devstack.lastmile_process import Api, Worker
from lastmile.devstack.logins import make_login
from lastmile.devstack.ports import HOST, Ports
from lastmile.devstack.secret import ensure_secret
from lastmile.devstack.server import ServerProcess
from lastmile.services.api_keys import NewApiKey, PrincipalKind, create_api_key
from lastmile.subscribers.tenants import add_tenant

__all__ = ["measure"]

ROUNDS = 3
BATCH = 96
IN_FLIGHT = 16
LONE = 40
RATE = 50
"""Orders a second in the measurement of the latency: so many are sent whether the ones before are answered or not."""
SECONDS = 20
LISTENERS = 200
KEYS = 6
"""The API keys that the orders are sent with in turns: each may send 600 requests a minute."""
PAGE = 50
DEEP_PAGE = 2_000
_NUMBERS = count(1_000_000)
_NOT_SENT = {"tenant", "requested_by"}
ECHO = "an echo of the same model"

_FILL = f"""
SET session_replication_role = replica;
SET synchronous_commit = off;
INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, created_at,
                    finished_at)
SELECT 'archive', 'A-' || n, 'suspend', 'changes', 'S-' || n % 50000, 'd', 'r', 'completed',
       now() - n * interval '1 second', now() - n * interval '1 second'
FROM generate_series(1, {(DEEP_PAGE + 100) * PAGE}) n;
"""


async def measure(directory: Path, owner_url: str, temporal_address: str) -> list[Measurement]:
    """Measure with the API, a worker and the echo as processes of their own, in a migrated database."""
    url = await make_login(owner_url, "lastmile", ensure_secret(directory, "lastmile"), TENANT_ROLE, PLATFORM_ROLE)
    ports = Ports(directory)
    port, echo_port, worker_port = (ports.claim(name) for name in ("api", "echo", "api-worker"))
    environment = {
        "DATABASE_URL": url,
        "TEMPORAL_ADDRESS": temporal_address,
        "LASTMILE_TASK_QUEUE": "bench-api",
        "LASTMILE_API_HOST": HOST,
        "LASTMILE_API_PORT": str(port),
        "LASTMILE_API_METRICS_PORT": "0",
        "LASTMILE_HTTP_HOST": HOST,
        "LASTMILE_HTTP_PORT": str(worker_port),
    }
    keys = await _prepare(url)
    await as_owner(owner_url, _FILL, *SETTLE)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Api(directory, environment, port=port, grace_seconds=5))
        await _start_echo(directory, echo_port, stack)
        api, echo = [await stack.enter_async_context(_Caller(one, keys)) for one in (port, echo_port)]
        pages = await _pages(api, keys[-1])
        async with AsyncExitStack() as working:
            worker = Worker(directory, environment, port=worker_port, grace_seconds=5)
            slowest_event = await _listen(api, lambda: working.enter_async_context(worker))
            steady = await _steadily(api)
        turns = {"api": _turn(api), "echo": _turn(echo)}
        await medians(1, turns)  # caches, connections, prepared statements
        found = await medians(ROUNDS, turns)
    return [*_accepted(found), steady, pages, slowest_event]


def _accepted(found: Mapping[str, Measured]) -> list[Measurement]:
    api, echo = found["api"], found["echo"]
    return [
        Measurement("orders accepted, 1 caller, median", api["ms"], "ms", ECHO, echo["ms"]),
        Measurement(f"orders accepted, {IN_FLIGHT} callers", api["rate"], "/s", ECHO, echo["rate"]),
    ]


class _Caller:
    """A caller of an API within `async with`. It sends each order for another subscriber."""

    def __init__(self, port: int, keys: list[str]) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2)
        self.http = httpx.AsyncClient(base_url=f"http://{HOST}:{port}", limits=limits, timeout=60, trust_env=False)
        self._headers = cycle([{"Authorization": f"Bearer {key}"} for key in keys[:KEYS]])

    async def __aenter__(self) -> "_Caller":
        await self.http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def send(self) -> str:
        """Send an order and return its id."""
        order = provision_order(next(_NUMBERS)).model_dump(mode="json", exclude_defaults=True, exclude=_NOT_SENT)
        answer = await self.http.post("/v1/orders", json=order | {"operation": "provision"}, headers=self.headers)
        if answer.status_code != 202:
            raise RuntimeError(f"an order was answered with {answer.status_code}: {answer.text}")
        return str(order["order_id"])

    @property
    def headers(self) -> dict[str, str]:
        return next(self._headers)


def _turn(caller: _Caller) -> Turn:
    async def turn() -> Measured:
        return {
            "rate": await rate(caller.send, BATCH, IN_FLIGHT),
            "ms": 1000 * await each(caller.send, LONE),
        }

    return turn


async def _steadily(api: _Caller) -> Measurement:
    """Send orders at a constant rate beside the orders that are running, and measure how long each answer takes."""
    seconds: list[float] = []

    async def send(at: float) -> None:
        await asyncio.sleep(at - time.perf_counter())
        await api.send()
        seconds.append(time.perf_counter() - at)  # from the planned moment: a late one counts as slow

    begin = time.perf_counter() + 0.1
    await asyncio.gather(*(send(begin + number / RATE) for number in range(RATE * SECONDS)))
    name = f"orders accepted at {RATE}/s beside running orders, 99th percentile"
    return Measurement(name, 1000 * quantiles(seconds, n=100)[-1], "ms", target=Target("value", "≤", 50))


async def _listen(api: _Caller, start_worker: Callable[[], Awaitable[object]]) -> Measurement:
    """Follow many orders that wait for a worker; measure the time from the end of each order until its last event."""
    order_ids = [await api.send() for _ in range(LISTENERS)]
    ready = [asyncio.Event() for _ in order_ids]
    listening = [asyncio.create_task(_follow(api, *each)) for each in zip(order_ids, ready, strict=True)]
    await asyncio.gather(*(event.wait() for event in ready))
    await start_worker()
    late = await asyncio.gather(*listening)
    name = f"{LISTENERS} listeners, each event once, the slowest last event after the end of its order"
    return Measurement(name, 1000 * max(late), "ms", target=Target("value", "≤", 1000))


async def _follow(api: _Caller, order_id: str, ready: asyncio.Event) -> float:
    """Follow an order to its end. Return the seconds between its end and its last event."""
    seen: Counter[str] = Counter()
    async with api.http.stream("GET", f"/v1/orders/{order_id}/events", headers=api.headers, timeout=600) as stream:
        if stream.status_code != 200:
            raise RuntimeError(f"the events of order {order_id} were answered with {(await stream.aread()).decode()}")
        ready.set()
        late, event = 0.0, dict[str, str]()
        async for line in stream.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
                continue
            if "id" in event:  # otherwise a sign of life
                seen[event["id"]] += 1
            if event.get("event") == "ended":
                ended = datetime.fromisoformat(json.loads(event["data"])["finished_at"])
                late = (datetime.now(UTC) - ended).total_seconds()
            event = {}
    if set(seen.values()) != {1} or seen["ended"] != 1:
        raise RuntimeError(f"the events of order {order_id} did not come once each: {seen}")
    return late


async def _pages(api: _Caller, key: str) -> Measurement:
    """Measure a page deep in a list of orders, and the first page."""
    headers = {"Authorization": f"Bearer {key}"}

    async def page(path: str) -> Any:
        answer = await api.http.get(path, headers=headers)
        answer.raise_for_status()
        return answer.json()

    first = f"/v1/orders?limit={PAGE}"
    deep = "/v1/orders?limit=1000"
    for _ in range(DEEP_PAGE * PAGE // 1000):
        deep = (await page(deep))["next"]
    deep = deep.replace("limit=1000", f"limit={PAGE}")
    if len((await page(deep))["results"]) != PAGE:
        raise RuntimeError("the list is too short")
    took = {path: await each(partial(page, path), LONE) for path in (first, deep, first, deep)}
    name = f"page {DEEP_PAGE:,} of a list of orders, median"
    return Measurement(name, 1000 * took[deep], "ms", "its first page", 1000 * took[first], at_most(1.2))


async def _start_echo(directory: Path, port: int, stack: AsyncExitStack) -> None:
    command = [sys.executable, "-m", "bench.echo_api", str(port)]
    echo = await ServerProcess.start("The echo", command, log=directory / "logs" / "echo.log", env=os.environ)
    stack.push_async_callback(echo.stop)
    async with httpx.AsyncClient(trust_env=False) as client:

        async def answers() -> bool:
            with suppress(httpx.TransportError):
                return (await client.get(f"http://{HOST}:{port}/healthz")).status_code == 200
            return False

        await echo.ready(answers, within=60)


async def _prepare(url: str) -> list[str]:
    """Add the tenants and a pool. Return the API keys; the last one is that of the tenant with the long list."""
    database = Database(url)
    try:
        async with database.platform() as platform:
            for tenant in ("acme", "archive"):
                await add_tenant(platform, tenant, tenant)
            space = "3fff:300::/40"
            await add_pool(
                platform, Pool(name="api", prefix=space, purpose=Purpose.IPV6_PD, delegated_length=56, tenant="acme")
            )
        wanted = [("acme", f"caller-{number}") for number in range(KEYS)] + [("archive", "reader")]
        return [
            (
                await create_api_key(
                    database,
                    NewApiKey(name=name, tenant=tenant, permissions=frozenset(Permission), kind=PrincipalKind.SYSTEM),
                    actor="bench",
                )
            ).text
            for tenant, name in wanted
        ]
    finally:
        await database.close()
