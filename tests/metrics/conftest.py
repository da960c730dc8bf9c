"""Fixtures of the metrics tests: a pool with 16 prefixes, and a pool with four for every tenant."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.subscribers.tenants import add_tenant
from tests.support.allocation_env import AllocationEnv


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection) -> AsyncIterator[AllocationEnv]:
    database = Database(owner_url)
    env = AllocationEnv(database, owner)
    async with database.platform() as platform:
        await add_tenant(platform, "acme", "Acme Broadband")
        await add_tenant(platform, "other", "Other Networks")
    await env.pool("2001:db8::/52")
    await env.pool("2001:db8:f::/54", "shared", tenant=None)
    try:
        yield env
    finally:
        await database.close()
