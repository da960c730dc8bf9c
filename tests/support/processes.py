"""A worker in its own process, as in production, and requests to its HTTP pages."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.request import ProxyHandler, build_opener

from lastmile.devstack.logins import make_login
from lastmile.devstack.ports import HOST, is_free
from tests.support.forked_worker import LOG_LIMIT, ForkedWorker

__all__ = ["Environment", "Worker", "environment_of", "get", "healthy", "port_of", "started", "until"]

Environment = dict[str, str]
Worker = ForkedWorker | asyncio.subprocess.Process

FOREIGN = ("LASTMILE_", "NETBOX_", "OTEL_", "TEMPORAL_")


async def environment_of(directory: Path, owner_url: str, temporal_address: str, *, task_queue: str) -> Environment:
    """Return the environment variables of a worker, with a database login that owns no table."""
    login = await make_login(owner_url, "test_worker", "secret", "lastmile_app", "lastmile_platform")
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | {
        "DATABASE_URL": login,
        "TEMPORAL_ADDRESS": temporal_address,
        "LASTMILE_TASK_QUEUE": task_queue,
        "LASTMILE_HTTP_PORT": str(_free_ports(3)),
        "LASTMILE_STATE_DIR": str(directory),
    }


def _free_ports(number: int) -> int:
    """Return the first of `number` free consecutive ports, chosen at random since other processes search too.

    Each process that runs tests has its own range: a port is free until the worker has started.
    """
    first = 19_000 + 200 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 5)
    return next(
        port
        for port in random.sample(range(first, first + 200 - number), 150)
        if all(is_free(port + index) for index in range(number))
    )


def port_of(environment: Mapping[str, str]) -> int:
    """Return the port of `/healthz` and `/metrics`."""
    return int(environment["LASTMILE_HTTP_PORT"])


@asynccontextmanager
async def started(
    environment: Mapping[str, str],
    *arguments: str,
    code: Path | None = None,
    constants: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncIterator[Worker]:
    """Run a worker of this code as a fork, with other values of `constants`.

    With `code`, run the version in that directory, with an interpreter of its own.
    """
    process: Worker
    if code is None:
        process = await ForkedWorker.start(environment, arguments, constants)
    else:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lastmile.worker", *arguments),
            env=environment,
            cwd=code,
            stderr=asyncio.subprocess.PIPE,
            limit=LOG_LIMIT,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                process.terminate()
        await process.communicate()


def get(port: int, path: str) -> str:
    with build_opener(ProxyHandler({})).open(f"http://{HOST}:{port}{path}", timeout=30) as response:
        return str(response.read().decode())


async def until(answer: Callable[[], Awaitable[Any]]) -> Any:
    """Call `answer` until its result is true; return the result."""
    async with asyncio.timeout(300):
        while True:
            try:
                if result := await answer():
                    return result
            except OSError:
                pass
            await asyncio.sleep(0.05)


async def healthy(port: int) -> None:
    await until(lambda: asyncio.to_thread(get, port, "/healthz"))
