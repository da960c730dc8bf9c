"""Fixtures of the audit's tests, each with an empty database of its own."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from tests.support.audited_estate import Estate


@pytest.fixture
async def estate(database: Database, owner: asyncpg.Connection) -> AsyncIterator[Estate]:
    async with DynamicAuthorization(timeout=0.1, tries=1, in_flight=1) as authorization:
        yield Estate(database, owner, authorization)


@pytest.fixture
async def lived_in(estate: Estate) -> Estate:
    """Two lines, a deprovisioned one, one whose order is complete but open, and one half deprovisioned."""
    for nth in (1, 2, 3, 5):
        await estate.provision(nth)
    await estate.deprovision(3)
    await estate.provision(4, ends=None)
    await estate.deprovision(5, ends=None)
    return estate
