"""Fixtures with a worker of the test's own on the session's servers, and orders for it."""

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from lastmile.client.orders import Lastmile
from lastmile.client.schedules.retry import ScheduleRetryInterceptor
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.controllers import RecordingController
from tests.support.faults import Faults
from tests.support.maintenance import Maintenance
from tests.support.orders import Orders

SECRET = b"a shared secret"


@pytest.fixture
def orders() -> Orders:
    return Orders(f"S-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def faults() -> Faults:
    """Return an interceptor without faults; a test adds them."""
    return Faults()


@pytest.fixture
def settings() -> Settings:
    return Settings(
        task_queue=f"test-{uuid.uuid4().hex}",
        radius_timeout_seconds=1,
        radius_tries=2,
        quarantine_seconds=3600,
        quarantine_unconfirmed_seconds=7200,
    )


@pytest.fixture
def client(temporal_client: Client, faults: Faults) -> Client:
    return Client(
        temporal_client.service_client,
        data_converter=pydantic_data_converter,
        interceptors=[ScheduleRetryInterceptor(), faults],
    )


@pytest.fixture
async def authorization(settings: Settings) -> AsyncIterator[DynamicAuthorization]:
    async with DynamicAuthorization(
        timeout=settings.radius_timeout_seconds, tries=settings.radius_tries, in_flight=settings.radius_in_flight
    ) as authorization:
        yield authorization


@pytest.fixture
async def worker(
    client: Client, settings: Settings, database: Database, authorization: DynamicAuthorization
) -> AsyncIterator[Worker]:
    """Run a worker as in production, with the faults of the test."""
    async with build_worker(client, settings, database, authorization) as worker:
        yield worker


@pytest.fixture
async def nas(owner: asyncpg.Connection, database: object) -> AsyncIterator[ScriptedNas]:
    """Run a NAS that is in the inventory, without sessions."""
    async with ScriptedNas(SECRET) as scripted:
        await owner.execute(
            "INSERT INTO nas (nasname, shortname, secret, coa_port) VALUES ('127.0.0.1', 'bng-1', $1, $2)",
            SECRET.decode(),
            scripted.nas.port,
        )
        yield scripted


@pytest.fixture
def lastmile(client: Client, settings: Settings, worker: Worker) -> Lastmile:
    """Return the client of a provisioning system, with a running worker."""
    return Lastmile(client, task_queue=settings.task_queue)


@pytest.fixture
def maintenance(lastmile: Lastmile, settings: Settings) -> Maintenance:
    """Return the maintenance runs, which the test starts."""
    return Maintenance(lastmile, settings.task_queue)


@pytest.fixture
def olt() -> RecordingController:
    return RecordingController()


@pytest.fixture
def acs() -> RecordingController:
    return RecordingController()


@pytest.fixture
async def controlled(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    olt: RecordingController,
    acs: RecordingController,
) -> AsyncIterator[Lastmile]:
    """Return the client of a provisioning system, with a worker that has an OLT controller and an ACS."""
    async with build_worker(client, settings, database, authorization, onu=olt, cpe=acs):
        yield Lastmile(client, task_queue=settings.task_queue)
