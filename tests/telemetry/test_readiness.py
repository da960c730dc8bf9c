"""Tests of `/readyz` of a real worker without PostgreSQL, without Temporal, and during its stop."""

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import asyncpg
import pytest

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.db.migrate import upgrade
from lastmile.devstack.ports import HOST
from lastmile.devstack.postgres import EmbeddedPostgres
from lastmile.devstack.temporal import DevTemporal
from lastmile.telemetry.readiness import Readiness
from tests.support.orders import Orders
from tests.support.processes import Environment, environment_of, get, healthy, port_of, started, until

READY = (200, {"ready": True, "database": "ok", "temporal": "ok", "worker": "ok"})


def look(port: int) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of `/readyz`."""
    try:
        with build_opener(ProxyHandler({})).open(f"http://{HOST}:{port}/readyz", timeout=30) as answer:
            return answer.status, json.load(answer)
    except HTTPError as refusal:
        return refusal.code, json.load(refusal)


async def ready(port: int) -> None:
    async def is_ready() -> bool:
        return await asyncio.to_thread(look, port) == READY

    await until(is_ready)


async def not_ready(port: int) -> dict[str, Any]:
    """Wait until the worker is not ready, and return the body."""

    async def body() -> dict[str, Any] | None:
        status, said = await asyncio.to_thread(look, port)
        assert said.pop("ready") is (status == 200)
        return None if status == 200 else said

    found: dict[str, Any] = await until(body)
    return found


@dataclass
class Peers:
    """Servers that the test can stop and restart, and the environment of a worker."""

    postgres: EmbeddedPostgres
    temporal: DevTemporal
    environment: Environment


@pytest.fixture
async def peers(server_directory: Path, temporal_program: Path, tmp_path: Path) -> AsyncIterator[Peers]:
    directory = server_directory / f"ready-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    directory.chmod(0o755)
    async with AsyncExitStack() as stack:
        postgres = EmbeddedPostgres(directory, durable=False)
        temporal = DevTemporal(directory, program=temporal_program, database=directory / "temporal.db")
        for server in (postgres, temporal):
            await server.__aenter__()
            stack.push_async_callback(server.__aexit__, None, None, None)
        await upgrade(postgres.url)
        environment = await environment_of(tmp_path, postgres.url, temporal.address, task_queue="ready")
        yield Peers(postgres, temporal, environment)


async def test_readyz_without_postgresql_names_the_database(peers: Peers) -> None:
    port = port_of(peers.environment)
    async with started(peers.environment):
        await healthy(port)
        await ready(port)
        await peers.postgres.__aexit__(None, None, None)
        said = await not_ready(port)
        assert said.pop("database").startswith("no answer (")
        assert said == {"temporal": "ok", "worker": "ok"}
        assert await asyncio.to_thread(get, port, "/healthz") == "ok\n", "the worker lives, and waits"
        await peers.postgres.__aenter__()
        await ready(port)


async def test_readyz_without_temporal_names_temporal(peers: Peers) -> None:
    port = port_of(peers.environment)
    async with started(peers.environment):
        await healthy(port)
        await ready(port)
        await peers.temporal.__aexit__(None, None, None)
        said = await not_ready(port)
        assert said["temporal"].startswith("no answer")
        assert said["database"] == "ok"
        assert await asyncio.to_thread(get, port, "/healthz") == "ok\n", "the worker lives, and waits"
        await peers.temporal.__aenter__()
        await ready(port)


async def test_readyz_of_a_draining_worker_reports_the_stop(
    environment: Environment, lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """A lock blocks a step: the stopping worker waits for the group of the step, and accepts no new task."""
    port = port_of(environment)
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'RowExclusiveLock'"
    async with started(environment) as process:
        await healthy(port)
        await ready(port)
        async with owner.transaction():
            await owner.execute("LOCK TABLE customers")
            run = await lastmile.start(orders.provision())
            await until(lambda: owner.fetchval(waiting))
            process.send_signal(signal.SIGTERM)
            said = await not_ready(port)
        assert said == {"database": "ok", "temporal": "ok", "worker": "stopping"}
        assert await process.wait() == 0
    assert (await run.result()).status is ResultStatus.COMPLETED


async def test_readiness_with_a_check_that_hangs_ends_after_its_time_out() -> None:
    asked = 0

    async def well() -> str:
        nonlocal asked
        asked += 1
        return ""

    async def hangs() -> str:
        await asyncio.Event().wait()
        return ""

    readiness = Readiness(asyncio.get_running_loop(), {"good": well, "bad": hangs})
    first, second = await asyncio.gather(*(asyncio.to_thread(readiness.report) for _ in range(2)))
    assert not first.ready
    assert first.findings == {"good": "ok", "bad": "no answer within 2 s"}
    assert second == first
    assert asked == 1, "probes that come together share one look"
