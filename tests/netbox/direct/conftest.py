"""Fixtures for tests of direct pools."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from lastmile.devstack.netbox import NetBoxServer
from tests.support.direct_env import DirectEnv


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DirectEnv]:
    async with DirectEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


@pytest.fixture
async def home(env: DirectEnv) -> int:
    """Add a direct pool of /56s; return its id in NetBox."""
    return await env.pool()
