"""The command as a process of its own, as scripts and people start it, on the session's real servers."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.workflows.faults import Faults

POOL = ("--purpose", "ipv6_pd", "--length", "56", "--tenant", "acme", "--force")
"""The options of a pool in documentation space, which is not for subscribers."""


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int | None
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        """One object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    """Starts `lastmile` with an environment of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)

    def but(self, **changes: str | None) -> "Cli":
        """With other variables; without those that are None."""
        environment = self.environment | changes
        return Cli({name: value for name, value in environment.items() if value is not None})

    async def __call__(self, *arguments: str, stdin: str = "") -> Ran:
        process = await self.start(*arguments)
        out, err = await process.communicate(stdin.encode())
        return Ran(process.returncode, out.decode(), err.decode())

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lastmile.cli", *arguments),
            env=self.environment,
            cwd=Path(__file__).parent.parent.parent,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


async def interrupted(process: asyncio.subprocess.Process) -> Ran:
    """Ctrl-C, now."""
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    return Ran(process.returncode, out.decode(), err.decode())


async def until(stream: asyncio.StreamReader | None, word: str) -> None:
    """Read on to the line that has this word."""
    assert stream is not None
    while word not in (line := (await stream.readline()).decode()):
        assert line, f"it ended without saying {word!r}"


@pytest.fixture
def alone(tmp_path: Path) -> Cli:
    """Where nothing is configured and nothing runs."""
    kept = {name: value for name, value in os.environ.items() if name.split("_")[0] in ("PATH", "HOME", "LANG", "XDG")}
    (tmp_path / "temporal.toml").touch()
    return Cli(
        kept
        | {
            "COLUMNS": "200",
            "LASTMILE_STATE_DIR": str(tmp_path),
            "TEMPORAL_CONFIG_FILE": str(tmp_path / "temporal.toml"),
            "TEMPORAL_ADDRESS": "127.0.0.1:1",
        }
    )


@pytest.fixture
def settings() -> Settings:
    return Settings(task_queue=f"test-{uuid.uuid4().hex}", radius_timeout_seconds=2, radius_tries=1)


@pytest.fixture
def cli(alone: Cli, owner_url: str, database: Database, temporal_address: str, settings: Settings) -> Cli:
    """With a database that has tenants `acme` and `other`, and Temporal; a worker only by `working`."""
    return alone.but(DATABASE_URL=owner_url, TEMPORAL_ADDRESS=temporal_address, LASTMILE_TASK_QUEUE=settings.task_queue)


@pytest.fixture
def fresh(alone: Cli, owner_url: str) -> Cli:
    """With a migrated database, and nothing in it."""
    return alone.but(DATABASE_URL=owner_url)


@pytest.fixture
def faults() -> Faults:
    """Nothing goes wrong, until the test says so."""
    return Faults()


class Working:
    """`async with` runs a worker."""

    def __init__(self, client: Client, settings: Settings, database: Database) -> None:
        self._parts = client, settings, database
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> None:
        authorization = await self._exit.enter_async_context(DynamicAuthorization(timeout=2, tries=1, in_flight=8))
        await self._exit.enter_async_context(build_worker(*self._parts, authorization))

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()


@pytest.fixture
def working(temporal_client: Client, settings: Settings, database: Database, faults: Faults) -> Working:
    client = Client(temporal_client.service_client, data_converter=pydantic_data_converter, interceptors=[faults])
    return Working(client, settings, database)


@pytest.fixture
async def worker(working: Working) -> AsyncIterator[None]:
    async with working:
        yield


class Book:
    """Orders for subscribers of the test's own, since the session's tests share one Temporal."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex[:8]

    def ref(self, nth: int = 1) -> str:
        return f"S-{self.mark}-{nth}"

    def order(self, nth: int = 1, **changes: Any) -> dict[str, Any]:
        return {
            "tenant": "acme",
            "order_id": f"O-{nth}",
            "subscriber_ref": self.ref(nth),
            "customer": {"ref": "C-1", "name": "Ada Example"},
            "plan": {"name": "fiber", "download_kbps": 500_000, "upload_kbps": 250_000},
            "line": {"connection_type": "ftth", "onu_serial": f"ACME{nth:08X}", "cpe_mac": f"00:1a:2b:00:00:{nth:02x}"},
            **changes,
        }


def lines(*orders: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(order)}\n" for order in orders)


@pytest.fixture
def book() -> Book:
    return Book()
