"""Fixtures of the telemetry tests: the environment of a worker, and a line."""

import uuid
from pathlib import Path

import pytest
from temporalio.client import Client

from lastmile.client.orders import Lastmile
from lastmile.db import Database
from tests.support.orders import Orders
from tests.support.processes import Environment, environment_of


@pytest.fixture
def orders() -> Orders:
    return Orders(f"S-{uuid.uuid4().hex[:12]}")


@pytest.fixture
async def environment(
    tmp_path: Path, owner_url: str, database: Database, temporal_address: str, orders: Orders
) -> Environment:
    return await environment_of(tmp_path, owner_url, temporal_address, task_queue=orders.ref)


@pytest.fixture
def lastmile(temporal_client: Client, orders: Orders) -> Lastmile:
    """The client of a provisioning system. The test starts the worker."""
    return Lastmile(temporal_client, task_queue=orders.ref)
