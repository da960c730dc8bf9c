"""The API on the test's database, with a Temporal client; no worker runs."""

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from temporalio.client import Client

from lastmile.api.app import create_app
from lastmile.api.context import ApiContext
from lastmile.api.serve import http_server
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from tests.support.api_server import api_context
from tests.support.audited_env import AuditedEnv
from tests.support.http_requests import serving


@pytest.fixture
async def context(database: Database, temporal_client: Client) -> AsyncIterator[ApiContext]:
    """Return the context of an API with tenants and pools in its database."""
    async with api_context(Settings(task_queue="no-worker"), database, temporal_client) as context:
        yield context


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
