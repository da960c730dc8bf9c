"""Orders over the REST API while the API is killed and while Temporal is stopped: each runs once, and none is lost."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from itertools import count, islice
from pathlib import Path

import asyncpg
import httpx
import pytest

from lastmile.audit.audit import check
from lastmile.db import Database
from lastmile.devstack.ports import HOST
from lastmile.devstack.temporal import DevTemporal
from tests.support.api_keys import authorization, make_api_key
from tests.support.forked_api import ForkedApi
from tests.support.orders import Orders, api_body
from tests.support.processes import Environment, environment_of, healthy, port_of, started, until

KILLS = 100 if "LASTMILE_EVERY_CASE" in os.environ else 3
ORDERS = 200 if "LASTMILE_EVERY_CASE" in os.environ else 20
"""The orders that are sent around the time in which Temporal is stopped."""
CALLERS = 4


class Caller:
    """A provisioning system. It repeats a request until it is answered, as its documentation advises."""

    def __init__(self, port: int, headers: dict[str, str], orders: Orders) -> None:
        self._http = httpx.AsyncClient(base_url=f"http://{HOST}:{port}", headers=headers, trust_env=False, timeout=30)
        self._orders = orders
        self.accepted: list[str] = []
        self.repeated = 0

    async def send(self, number: int) -> None:
        order = self._orders.provision(f"O-{number}", nth=number)
        while True:
            try:
                answer = await self._http.post("/v1/orders", json=api_body(order))
                if answer.status_code != 503:  # the database was too slow
                    break
            except httpx.TransportError:
                pass
            self.repeated += 1
            await asyncio.sleep(0.02)
        assert answer.status_code in (200, 202), answer.text
        self.accepted.append(order.order_id)

    async def close(self) -> None:
        await self._http.aclose()


async def environment_with_api(directory: Path, owner_url: str, temporal_address: str, orders: Orders) -> Environment:
    """Return the environment of a worker and of the API."""
    environment = await environment_of(directory, owner_url, temporal_address, task_queue=orders.ref)
    port = port_of(environment)
    return environment | {"LASTMILE_API_PORT": str(port + 1), "LASTMILE_API_METRICS_PORT": str(port + 2)}


@asynccontextmanager
async def calling(environment: Environment, database: Database, orders: Orders) -> AsyncIterator[list[Caller]]:
    """Yield callers with a rate limit of their own each."""
    keys = [authorization(await make_api_key(database)) for _ in range(CALLERS)]
    callers = [Caller(int(environment["LASTMILE_API_PORT"]), key, orders) for key in keys]
    yield callers
    for caller in callers:
        await caller.close()


@contextmanager
def served(environment: Environment) -> Iterator[ForkedApi]:
    """Run an API, and kill it."""
    api = ForkedApi(environment)
    try:
        yield api
    finally:
        api.kill()


async def check_each_ran_once(callers: list[Caller], owner: asyncpg.Connection, database: Database) -> None:
    """Wait until every accepted order has run. Each has one line with one prefix, and the audit finds nothing."""
    accepted = [order_id for caller in callers for order_id in caller.accepted]

    async def all_completed() -> bool:
        return await owner.fetchval("SELECT count(*) FROM orders WHERE status = 'completed'") == len(accepted)

    await until(all_completed)
    assert await owner.fetchval("SELECT count(*) FROM accepted_orders") == 0
    assert {row["order_id"] for row in await owner.fetch("SELECT order_id FROM orders")} == set(accepted)
    started_once = "SELECT order_id FROM billing_events WHERE event = 'started' GROUP BY 1 HAVING count(*) = 1"
    assert len(await owner.fetch(started_once)) == len(accepted)
    assert await owner.fetchval("SELECT count(DISTINCT prefix) FROM delegations") == len(accepted)
    assert [found.invariant.name async for found in check(database)] == []


@pytest.mark.timeout(240 + 20 * KILLS)
async def test_api_that_is_killed_in_mid_request_loses_no_order_and_runs_none_twice(
    tmp_path: Path, owner_url: str, temporal_address: str, owner: asyncpg.Connection, database: Database, orders: Orders
) -> None:
    """The callers send all the time, so each kill meets requests."""
    environment = await environment_with_api(tmp_path, owner_url, temporal_address, orders)
    numbers, stop = count(1), asyncio.Event()

    async def call(caller: Caller) -> None:
        while not stop.is_set():
            await caller.send(next(numbers))

    async with started(environment), calling(environment, database, orders) as callers:
        tasks = [asyncio.create_task(call(caller)) for caller in callers]
        for _ in range(KILLS):
            with served(environment):
                await until(partial(_has_accepted, callers, sum(len(caller.accepted) for caller in callers) + CALLERS))
                await asyncio.sleep(random.uniform(0, 0.1))  # the moment of the kill
        stop.set()
        with served(environment):
            await asyncio.gather(*tasks)
        await check_each_ran_once(callers, owner, database)
    assert sum(caller.repeated for caller in callers) >= KILLS


async def _has_accepted(callers: list[Caller], number: int) -> bool:
    return sum(len(caller.accepted) for caller in callers) >= number


async def test_orders_that_are_sent_while_temporal_is_stopped_run_when_it_is_back(
    tmp_path: Path,
    owner_url: str,
    temporal_program: Path,
    owner: asyncpg.Connection,
    database: Database,
    orders: Orders,
) -> None:
    """A quarter of the orders is sent before, half of them during the outage, and the rest afterwards."""
    numbers = iter(range(1, ORDERS + 1))

    async def send(callers: list[Caller], share: int) -> None:
        async def call(caller: Caller) -> None:
            for number in islice(numbers, share // CALLERS):
                await caller.send(number)

        await asyncio.gather(*map(call, callers))

    async with AsyncExitStack() as stack:
        file = tmp_path / "temporal.db"
        async with DevTemporal(tmp_path, program=temporal_program, database=file) as temporal:
            environment = await environment_with_api(tmp_path, owner_url, temporal.address, orders)
            await stack.enter_async_context(started(environment))
            await healthy(port_of(environment))
            stack.enter_context(served(environment))
            callers = await stack.enter_async_context(calling(environment, database, orders))
            await send(callers, ORDERS // 4)
        await send(callers, ORDERS // 2)
        async with DevTemporal(tmp_path, program=temporal_program, database=file):
            await send(callers, ORDERS // 4)
            await check_each_ran_once(callers, owner, database)
