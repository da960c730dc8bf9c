"""The API on the test's database, with a Temporal client; no worker runs."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from temporalio.client import Client

from lastmile.api.app import create_app
from lastmile.api.auth.gate import open_gate
from lastmile.api.context import ApiContext
from lastmile.api.serve import http_server
from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.order_watch import OrderWatch
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.telemetry.readiness import Readiness
from tests.support.audited_env import AuditedEnv
from tests.support.http_requests import serving


@pytest.fixture
async def context(database: Database, temporal_client: Client) -> AsyncIterator[ApiContext]:
    """Return the context of an API with tenants and pools in its database."""
    settings = Settings()
    temporal = OperatorClient(temporal_client, "nobody-works-here")
    readiness = Readiness(asyncio.get_running_loop(), {})
    async with (
        open_gate(settings, database) as gate,
        OrderAcceptance(database, temporal.orders) as acceptance,
        OrderWatch(database, temporal.orders) as watch,
    ):
        yield ApiContext(settings, database, temporal, readiness, gate, acceptance, watch)


@pytest.fixture
def app(context: ApiContext) -> FastAPI:
    """Return the application."""
    return create_app(context)


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the application, without a token."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        yield client


@pytest.fixture
async def served(context: ApiContext) -> AsyncIterator[int]:
    """Serve the application as `lastmile api` does; return the port."""
    async with serving(http_server(context)) as port:
        yield port


@pytest.fixture
async def lines(database: Database, owner: asyncpg.Connection) -> AuditedEnv:
    """Return an environment with two lines of `acme`, one of them suspended."""
    async with DynamicAuthorization(timeout=0.1, tries=1, in_flight=1) as authorization:
        env = AuditedEnv(database, owner, authorization)
        await env.provision(1)
        await env.provision(2)
        await env.suspend(2)
        await owner.execute("UPDATE customers SET name = 'Ada', email = 'ada@example.net'")
        await owner.execute(
            "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime) "
            "VALUES ('s1', 's1', 'S-1@acme.lastmile', '192.0.2.1', now())"
        )
        return env
