"""Fixtures of the audit's tests, each with an empty database of its own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from tests.support.audited_env import AuditedEnv


@pytest.fixture
async def env(database: Database, owner: asyncpg.Connection) -> AsyncIterator[AuditedEnv]:
    async with DynamicAuthorization(timeout=0.1, tries=1, in_flight=1) as authorization:
        yield AuditedEnv(database, owner, authorization)


@pytest.fixture
async def populated_env(env: AuditedEnv) -> AuditedEnv:
    """Two lines, a deprovisioned one, one whose order is complete but open, and one half deprovisioned."""
    for nth in (1, 2, 3, 5):
        await env.provision(nth)
    await env.deprovision(3)
    await env.provision(4, ends=None)
    await env.deprovision(5, ends=None)
    return env
