"""Fixtures of the audit's tests: a database of the test's own, without lines or with some."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from tests.conftest import copy_of
from tests.support.audited_env import AuditedEnv


@asynccontextmanager
async def audited_env(database: Database, owner: asyncpg.Connection) -> AsyncIterator[AuditedEnv]:
    async with DynamicAuthorization(timeout=0.1, tries=1, in_flight=1) as authorization:
        yield AuditedEnv(database, owner, authorization)


@pytest.fixture(scope="session")
async def populated(stocked: str) -> AsyncIterator[str]:
    """Return the owner's URL of a copy that has the lines of `populated_env`, to make further copies of."""
    async with copy_of(stocked) as url:
        async with AsyncExitStack() as stack:  # nothing may be connected to a template
            database = Database(url)
            stack.push_async_callback(database.close)
            owner = await asyncpg.connect(url)
            stack.push_async_callback(owner.close)
            env = await stack.enter_async_context(audited_env(database, owner))
            for nth in (1, 2, 3, 5):
                await env.provision(nth)
            await env.deprovision(3)
            await env.provision(4, ends=None)
            await env.deprovision(5, ends=None)
        yield url


@pytest.fixture
def template_url(request: pytest.FixtureRequest, template_url: str, populated: str) -> str:
    """Return the owner's URL of a database with the lines of `populated_env`, if the test uses them."""
    return populated if "populated_env" in request.fixturenames else template_url


@pytest.fixture
async def env(database: Database, owner: asyncpg.Connection) -> AsyncIterator[AuditedEnv]:
    async with audited_env(database, owner) as env:
        yield env


@pytest.fixture
async def populated_env(env: AuditedEnv) -> AuditedEnv:
    """Two lines, a deprovisioned one, one whose order is complete but open, and one half deprovisioned."""
    return env
