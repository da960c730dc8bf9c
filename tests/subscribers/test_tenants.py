"""Tenants are added once, by the platform."""

import pytest

from db import Database
from subscribers.errors import Conflict
from subscribers.tenants import add_tenant, list_tenants


async def test_a_tenant_is_added_once(database: Database) -> None:
    async with database.platform() as platform:
        assert await add_tenant(platform, "third", "Third Fibre") is True
        assert await add_tenant(platform, "third", "Third Fibre") is False
        with pytest.raises(Conflict, match="tenant third exists, and is called 'Third Fibre'"):
            await add_tenant(platform, "third", "Another Name")
        assert [tenant["id"] for tenant in await list_tenants(platform)] == ["acme", "other", "third"]
