"""A database with two tenants and no pools: each test adds those it is about."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.subscribers.tenants import add_tenant
from tests.support.allocation_env import AllocationEnv


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection) -> AsyncIterator[AllocationEnv]:
    database = Database(owner_url)
    async with database.platform() as platform:
        await add_tenant(platform, "acme", "Acme Broadband")
        await add_tenant(platform, "other", "Other Networks")
    try:
        yield AllocationEnv(database, owner)
    finally:
        await database.close()
