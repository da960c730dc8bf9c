"""The command on the session's real servers."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from lastmile.db import Database
from lastmile.settings import Settings
from tests.support.commands import Book, Cli, CommandServer
from tests.support.faults import Faults
from tests.support.workers import RunningWorker


@pytest.fixture(scope="session")
def command_server() -> Iterator[CommandServer]:
    """Run the command server, which forks commands, so that imports happen once."""
    with CommandServer.running() as server:
        yield server


@pytest.fixture
def alone(tmp_path: Path, command_server: CommandServer) -> Cli:
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
        },
        command_server,
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


@pytest.fixture
def working(temporal_client: Client, settings: Settings, database: Database, faults: Faults) -> RunningWorker:
    client = Client(temporal_client.service_client, data_converter=pydantic_data_converter, interceptors=[faults])
    return RunningWorker(client, settings, database)


@pytest.fixture
async def worker(working: RunningWorker) -> AsyncIterator[None]:
    async with working:
        yield


@pytest.fixture
def book() -> Book:
    return Book()
