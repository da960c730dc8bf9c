"""Tests of the collector that shows the metrics snapshot."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sqlalchemy import make_url
from structlog.testing import capture_logs

from ipam.lifecycle import State
from lastmile.db import Database
from lastmile.metrics.snapshot import RETAINED, compute_snapshot, read_newest_snapshot, store_snapshot
from lastmile.telemetry import snapshot
from lastmile.telemetry.metrics import SNAPSHOT_METRICS
from lastmile.telemetry.snapshot import AGE, Sample, Snapshot, SnapshotCollector
from tests.support.allocation_env import AllocationEnv

ALLOCATED = ("ipv6_lifecycle_state_total", {"tenant": "acme", "state": "allocated"})


class Worker:
    """The part of a worker that answers scrapes, with its own connections."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, pool_size=2)
        self.registry = CollectorRegistry()
        self.registry.register(
            SnapshotCollector(partial(read_newest_snapshot, self.database), asyncio.get_running_loop())
        )

    async def scrape(self) -> CollectorRegistry:
        """Return the samples that Prometheus reads from the page."""
        page = await asyncio.to_thread(generate_latest, self.registry)
        scraped = CollectorRegistry()
        families = list(text_string_to_metric_families(page.decode()))
        scraped.register(type("Page", (), {"collect": lambda _: families})())
        return scraped

    async def says(self, name: str, labels: dict[str, str] | None = None) -> float | None:
        return (await self.scrape()).get_sample_value(name, labels)

    async def everything(self) -> dict[str, list[object]]:
        """Return all samples except the age."""
        return {family.name: family.samples for family in (await self.scrape()).collect() if family.name != AGE}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the time-out: a slow machine must not look like a stalled database."""
    monkeypatch.setattr(snapshot, "READ_TIMEOUT_SECONDS", 60)


@pytest.fixture
async def start(owner_url: str) -> AsyncIterator[Callable[[], Worker]]:
    async with AsyncExitStack() as stack:

        def start() -> Worker:
            worker = Worker(owner_url)
            stack.push_async_callback(worker.database.close)
            return worker

        yield start


async def take(env: AllocationEnv) -> Snapshot:
    snapshot = await compute_snapshot(env.database)
    await store_snapshot(env.database, snapshot)
    return snapshot


async def until(happens: Callable[[], Awaitable[bool]]) -> None:
    """Scrapes within a second show the same snapshot."""
    while True:
        if await happens():
            return
        await asyncio.sleep(0.05)


async def asked_in_vain(worker: Worker) -> str:
    """Return the logged reason why the worker could not read the newest snapshot."""
    with capture_logs() as logs:

        async def reported() -> bool:
            await worker.scrape()
            return bool(logs)

        await until(reported)
    return str(logs[0]["reason"])


async def test_collector_before_the_first_snapshot_shows_an_infinite_age(start: Callable[[], Worker]) -> None:
    worker = start()
    assert await worker.says(AGE) == math.inf
    assert not any((await worker.everything()).values())


async def test_collector_of_every_worker_shows_the_same_values(env: AllocationEnv, start: Callable[[], Worker]) -> None:
    workers = [start(), start()]
    await env.allocate("S-1")
    taken = await take(env)
    workers.append(start())
    for worker in workers:
        assert await worker.says(*ALLOCATED) == 1
        assert await worker.says("lastmile_snapshot_timestamp_seconds") == taken.taken_at.timestamp()
    first, *others = [await worker.everything() for worker in workers]
    assert [first] * 2 == others
    assert set(first) == {metric.name for metric in SNAPSHOT_METRICS}


async def test_collector_shows_the_newest_snapshot_not_the_last_stored(
    env: AllocationEnv, start: Callable[[], Worker]
) -> None:
    """A delayed run stores its older snapshot after a newer one."""
    held_up = await compute_snapshot(env.database)
    await env.allocate("S-1")
    await take(env)
    await store_snapshot(env.database, held_up)
    assert await start().says(*ALLOCATED) == 1


async def test_compute_snapshot_concurrently_gives_equal_values(
    env: AllocationEnv, start: Callable[[], Worker]
) -> None:
    await env.allocate("S-1")
    await asyncio.gather(*(take(env) for _ in range(8)))
    assert await start().says(*ALLOCATED) == 1


async def test_store_snapshot_deletes_the_oldest(env: AllocationEnv) -> None:
    for _ in range(RETAINED + 3):
        last = await take(env)
    assert await env.owner.fetchval("SELECT count(*) FROM metrics_snapshots") == RETAINED
    assert await env.owner.fetchval("SELECT max(taken_at) FROM metrics_snapshots") == last.taken_at


async def test_snapshot_age_grows_without_a_new_snapshot(env: AllocationEnv, start: Callable[[], Worker]) -> None:
    worker = start()
    snapshot = await compute_snapshot(env.database)
    await store_snapshot(env.database, replace(snapshot, taken_at=snapshot.taken_at - timedelta(hours=1)))
    first = await worker.says(AGE)
    second = await worker.says(AGE)
    assert first is not None
    assert second is not None
    assert 3600 <= first < second < 3700


async def test_collector_without_a_database_shows_the_last_snapshot(
    env: AllocationEnv, start: Callable[[], Worker], postgres_url: str, owner_url: str
) -> None:
    worker, late = start(), start()
    await env.allocate("S-1")
    await take(env)
    assert await worker.says(*ALLOCATED) == 1
    before = await worker.says(AGE)
    assert before is not None

    await env.database.close()
    name = make_url(owner_url).database
    admin = await asyncpg.connect(postgres_url)
    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name)
        await asked_in_vain(worker)
        assert await worker.says(*ALLOCATED) == 1
        after = await worker.says(AGE)
        assert after is not None
        assert after > before
        assert await late.says(AGE) == math.inf, "it has seen none"
    finally:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await admin.close()

    allocation = await env.allocate("S-1")
    await env.move(allocation.delegation, State.ACTIVE)
    await take(env)

    async def shown() -> bool:
        return await worker.says(*ALLOCATED) == await late.says(*ALLOCATED) == 0

    await until(shown)


async def test_collector_with_a_stalled_database_does_not_delay_the_scrape(
    env: AllocationEnv, start: Callable[[], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start()
    await take(env)
    assert await worker.says(*ALLOCATED) == 0
    async with env.owner.transaction():
        await env.owner.execute("LOCK TABLE metrics_snapshots")
        # Less than the lock time-out of PostgreSQL.
        monkeypatch.setattr(snapshot, "READ_TIMEOUT_SECONDS", 0.5)
        assert await asked_in_vain(worker) == "TimeoutError"
        assert await worker.says(*ALLOCATED) == 0
    await env.allocate("S-1")
    await take(env)

    async def shown() -> bool:
        return await worker.says(*ALLOCATED) == 1

    await until(shown)


async def test_collector_with_a_closed_event_loop_shows_an_infinite_age() -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    async def read() -> None:
        raise AssertionError("the value is not read")

    [*_, age] = SnapshotCollector(read, loop).collect()
    assert [sample.value for sample in age.samples] == [math.inf]


async def test_collector_with_samples_of_another_release_omits_them(
    env: AllocationEnv, start: Callable[[], Worker]
) -> None:
    snapshot = await compute_snapshot(env.database)
    unknown = Sample("ipv6_of_tomorrow", {}, 1)
    other_labels = Sample("ipv6_prefix_leak_total", {"tenant": "acme", "region": "north"}, 5)
    await store_snapshot(env.database, replace(snapshot, samples=(*snapshot.samples, unknown, other_labels)))
    shown = await start().everything()
    assert set(shown) == {metric.name for metric in SNAPSHOT_METRICS}
    assert {sample.value for sample in shown["ipv6_prefix_leak_total"]} == {0}
