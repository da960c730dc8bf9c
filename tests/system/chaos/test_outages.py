"""A server is stopped during ten provisions and started again: every order ends with a correct result."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.service import RPCError

from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile
from lastmile.client.temporal.connection import connect
from lastmile.contract import OrderResult, ResultStatus
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.db.migrate import upgrade
from lastmile.devstack.postgres import EmbeddedPostgres
from lastmile.devstack.temporal import DevTemporal
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.subscribers.tenants import add_tenant
from lastmile.worker import build_worker
from tests.support.orders import Orders

ORDERS = 10


@dataclass
class Ground:
    """Servers of the test's own, to be stopped and started at will, and a worker on them."""

    postgres: EmbeddedPostgres
    temporal: Callable[[], DevTemporal]
    running: DevTemporal
    database: Database
    lastmile: Lastmile

    async def order(self, nth: int) -> OrderResult:
        return await self.lastmile.execute(Orders("S").provision(order_id=f"O-{nth}", nth=nth))

    async def retrying(self, nth: int) -> None:
        """Wait until a step of this order has failed and is being tried again."""
        handle = self.lastmile.client.get_workflow_handle(f"subscriber/acme/S-{nth}")
        while True:
            description = await handle.describe()
            if any(activity.attempt > 2 for activity in description.raw_description.pending_activities):
                return
            await asyncio.sleep(0.05)  # the server sends no notification


@pytest.fixture
async def ground(server_directory: Path, temporal_program: Path) -> AsyncIterator[Ground]:
    directory = server_directory / f"chaos-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    directory.chmod(0o755)

    def temporal() -> DevTemporal:
        return DevTemporal(directory, program=temporal_program, database=directory / "temporal.db")

    async with AsyncExitStack() as stack:
        postgres = EmbeddedPostgres(directory, durable=False)
        await postgres.__aenter__()
        running = temporal()
        await running.__aenter__()
        await upgrade(postgres.url)
        database = Database(postgres.url)
        stack.push_async_callback(database.close)
        async with database.platform() as platform:
            await add_tenant(platform, "acme", "Acme Broadband")
            await add_pool(
                platform,
                Pool(name="home", prefix="2001:db8::/40", purpose=Purpose.IPV6_PD, delegated_length=56, tenant="acme"),
            )
        client = await connect({"TEMPORAL_ADDRESS": running.address})
        authorization = await stack.enter_async_context(DynamicAuthorization(timeout=1, tries=1, in_flight=8))
        await stack.enter_async_context(build_worker(client, Settings(), database, authorization))
        ground = Ground(postgres, temporal, running, database, Lastmile(client))
        try:
            yield ground
        finally:
            await stack.aclose()
            await ground.running.__aexit__(None, None, None)
            await postgres.__aexit__(None, None, None)


async def started(ground: Ground, first: int, beyond: int) -> list[asyncio.Task[OrderResult]]:
    return [asyncio.create_task(ground.order(nth)) for nth in range(first, beyond)]


async def all_true(ground: Ground, runs: list[asyncio.Task[OrderResult]]) -> None:
    """Every order is completed, each has a prefix of its own, and nothing is out of order."""
    results = [await run for run in runs]
    assert [result.status for result in results] == [ResultStatus.COMPLETED] * ORDERS
    assert len({result.created.ipv6_prefix for result in results}) == ORDERS
    assert [violation async for violation in check(ground.database)] == []


async def test_postgresql_goes_away(ground: Ground) -> None:
    runs = await started(ground, 1, 6)
    await _begun(ground, 5)
    await ground.postgres.__aexit__(None, None, None)
    runs += await started(ground, 6, ORDERS + 1)
    await _begun(ground, ORDERS)
    await ground.retrying(ORDERS)
    assert not all(run.done() for run in runs)
    await ground.postgres.__aenter__()
    await all_true(ground, runs)


async def test_temporal_goes_away(ground: Ground) -> None:
    runs = await started(ground, 1, 6)
    await _begun(ground, 5)
    await ground.running.__aexit__(None, None, None)
    runs += await started(ground, 6, ORDERS + 1)
    done, _ = await asyncio.wait(runs[5:], timeout=2)  # nothing can become of these yet, an error least of all
    assert not done
    ground.running = ground.temporal()
    await ground.running.__aenter__()
    await all_true(ground, runs)


async def _begun(ground: Ground, nth: int) -> None:
    """Wait until Temporal has taken the order."""
    handle = ground.lastmile.client.get_workflow_handle(f"subscriber/acme/S-{nth}")
    while True:
        try:
            await handle.describe()
        except RPCError:
            continue
        return
