"""The client of the REST API, on an API that is served from this process."""

import uuid
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from lastmile.api.context import ApiContext
from lastmile.client.api.orders import LastmileApi
from lastmile.db import Database
from lastmile.settings import Settings
from tests.support.api_keys import make_api_key
from tests.support.api_server import api_context, serving
from tests.support.faults import Faults
from tests.support.orders import Orders
from tests.support.workers import RunningWorker


@pytest.fixture
def orders() -> Orders:
    return Orders(f"S-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def context(database: Database, temporal_client: Client, faults: Faults) -> AsyncIterator[ApiContext]:
    """Return the context of an API whose orders go to a task queue of the test's own."""
    client = Client(temporal_client.service_client, data_converter=pydantic_data_converter, interceptors=[faults])
    async with api_context(Settings(task_queue=f"test-{uuid.uuid4().hex}"), database, client) as context:
        yield context


@pytest.fixture
async def worker(context: ApiContext) -> AsyncIterator[None]:
    """Run a worker for the orders of the API."""
    async with RunningWorker(context.temporal.client, context.settings, context.database):
        yield


@pytest.fixture
async def url(context: ApiContext) -> AsyncIterator[str]:
    """Return the address of the API."""
    async with serving(context) as url:
        yield url


@pytest.fixture
async def token(database: Database) -> str:
    """Return a key for `acme` with every permission."""
    return (await make_api_key(database)).text


@pytest.fixture
async def lastmile(url: str, token: str) -> AsyncIterator[LastmileApi]:
    """Return the client."""
    async with LastmileApi(url, token) as lastmile:
        yield lastmile
