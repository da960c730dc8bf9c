"""A storm of orders: workers are killed, replies to commits are lost, and orders are cancelled.

`LASTMILE_STORM_ORDERS=400` makes it a large one.
"""

import asyncio
import os
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url
from temporalio.client import Client

from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile, NotRunningError, OrderRefusedError, OrderRun
from lastmile.contract import AnyOrder, Decision, RunStatus
from lastmile.contract.addressing import Addressing
from lastmile.db import Database
from tests.support.orders import Orders
from tests.support.processes import Environment, environment_of, healthy, port_of, started
from tests.system.chaos.commit_proxy import CommitProxy
from tests.system.chaos.evidence import broken

ORDERS = int(os.environ.get("LASTMILE_STORM_ORDERS", "40"))
IN_FLIGHT = 16
WORKERS = 2
KILLS = max(2, ORDERS // 40)
LOST_COMMITS = 0.03
LONGEST_WAIT = 0.5
"""Seconds until a cancel follows its order."""


@dataclass
class Storm:
    """The orders, what became of them, and the workers."""

    lastmile: Lastmile
    orders: Orders
    environment: Environment
    dice: random.Random = field(default_factory=lambda: random.Random(12))
    statuses: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    progressed: asyncio.Event = field(default_factory=asyncio.Event)

    async def line(self, nth: int) -> None:
        """One line's life: it stays, goes, is cancelled on the way up or down, or asks for what no pool has."""
        fate = nth % 5
        vrf = "red" if nth % 2 else None
        size = 60 if fate == 4 else 56
        addressing = Addressing(ipv6_pd_size=size, vrf=vrf)
        provision = self.orders.provision(f"P-{nth}", nth, addressing=addressing)
        await self.order(provision, cancelled=fate == 2)
        if fate in (1, 3):
            down = self.orders.deprovision(f"D-{nth}", subscriber_ref=provision.subscriber_ref)
            await self.order(down, cancelled=fate == 3)

    async def order(self, order: AnyOrder, *, cancelled: bool) -> None:
        run = await self.lastmile.start(order)
        if cancelled:
            await asyncio.sleep(self.dice.uniform(0, LONGEST_WAIT))
            with suppress(NotRunningError):
                await self.lastmile.cancel(order.tenant, order.subscriber_ref)
        operator = asyncio.create_task(self._release(order))
        try:
            status = await self._status(run)
        finally:
            operator.cancel()
        self.statuses[f"{order.operation} {status}"] += 1
        self.ended += 1
        self.progressed.set()

    async def _status(self, run: OrderRun) -> str:
        try:
            return str((await run.result()).status)
        except OrderRefusedError:
            return "not begun"

    async def _release(self, order: AnyOrder) -> None:
        """Retry parked steps, as an operator does."""
        decision = Decision(by="storm", why="the server is back")
        while True:
            await asyncio.sleep(5)
            with suppress(Exception):  # no worker answers now
                progress = await self.lastmile.progress(order.tenant, order.subscriber_ref)
                if progress is not None and progress.status is RunStatus.PARKED:
                    self.statuses["parked"] += 1
                    await self.lastmile.decide(order.tenant, order.subscriber_ref, "retry_step", decision)

    async def workers(self) -> None:
        """Two workers, of which one is killed and replaced again and again, as the orders go on."""
        async with AsyncExitStack() as running:
            processes = [await running.enter_async_context(started(self._own(n))) for n in range(WORKERS)]
            await asyncio.gather(*(healthy(port_of(self._own(n))) for n in range(WORKERS)))
            for kill in range(KILLS):
                while self.ended < (kill + 1) * ORDERS // (KILLS + 1):
                    self.progressed.clear()
                    await self.progressed.wait()
                victim = kill % WORKERS
                # A worker that loses the reply to a commit of its start-up checks has ended by itself.
                with suppress(ProcessLookupError):
                    processes[victim].kill()
                await processes[victim].communicate()
                processes[victim] = await running.enter_async_context(started(self._own(victim)))
            await asyncio.Event().wait()

    def _own(self, nth: int) -> Environment:
        return self.environment | {"LASTMILE_HTTP_PORT": str(port_of(self.environment) + nth)}


@pytest.fixture
async def proxy(owner_url: str) -> AsyncIterator[CommitProxy]:
    port = make_url(owner_url).port
    assert port is not None
    async with CommitProxy(port, LOST_COMMITS, seed=12) as proxy:
        yield proxy


@pytest.fixture
async def storm(
    database: Database,
    owner_url: str,
    proxy: CommitProxy,
    temporal_client: Client,
    temporal_address: str,
    tmp_path: Path,
) -> Storm:
    async with database.platform() as platform:
        space = {"name": "red", "prefix": "2001:db8::/40", "purpose": "ipv6_pd", "delegated_length": 56}
        await add_pool(platform, Pool.model_validate(space | {"tenant": "acme", "vrf": "red"}))
    queue = f"storm-{uuid.uuid4().hex}"
    environment = await environment_of(tmp_path, owner_url, temporal_address, task_queue=queue)
    url = make_url(environment["DATABASE_URL"]).set(port=proxy.port)
    environment |= {
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "LASTMILE_RADIUS_TIMEOUT_SECONDS": "0.5",
        "LASTMILE_RADIUS_TRIES": "1",
        "LASTMILE_LOG_LEVEL": "ERROR",
    }
    return Storm(Lastmile(temporal_client, task_queue=queue), Orders(f"S-{uuid.uuid4().hex[:8]}"), environment)


@pytest.mark.timeout(300 + 8 * ORDERS)
async def test_storm_of_orders_leaves_nothing_double_and_nothing_behind(
    storm: Storm, proxy: CommitProxy, owner: asyncpg.Connection, database: Database
) -> None:
    left = iter(range(1, ORDERS + 1))

    async def client() -> None:
        for nth in left:
            await storm.line(nth)

    workers = asyncio.create_task(storm.workers())
    orders = asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
    await asyncio.wait([workers, orders], return_when=asyncio.FIRST_COMPLETED)
    assert not workers.done(), workers.exception()
    await orders
    workers.cancel()
    await asyncio.gather(workers, return_exceptions=True)

    print(f"{ORDERS} lines, {KILLS} workers killed, {proxy.swallowed} replies to commits lost: {dict(storm.statuses)}")
    assert proxy.swallowed
    assert await broken(owner) == {}
    assert [violation async for violation in check(database)] == []
