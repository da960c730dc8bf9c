"""Tests of tenants."""

import pytest

from lastmile.db import Database
from lastmile.subscribers.errors import RecordConflictError, TenantInUseError, UnknownTenantError
from lastmile.subscribers.tenants import add_tenant, list_tenants, remove_tenant


async def test_add_tenant_again_returns_false(database: Database) -> None:
    async with database.platform() as platform:
        assert await add_tenant(platform, "third", "Third Fibre") is True
        assert await add_tenant(platform, "third", "Third Fibre") is False
        with pytest.raises(RecordConflictError, match="Tenant third exists with the name 'Third Fibre'"):
            await add_tenant(platform, "third", "Another Name")
        assert [tenant["id"] for tenant in await list_tenants(platform)] == ["acme", "other", "third"]


async def test_remove_tenant_with_references_is_refused(database: Database) -> None:
    async with database.platform() as platform:
        await add_tenant(platform, "typo", "Typo Networks")
        await remove_tenant(platform, "typo")
        assert [tenant["id"] for tenant in await list_tenants(platform)] == ["acme", "other"]
        with pytest.raises(UnknownTenantError, match="Tenant typo does not exist"):
            await remove_tenant(platform, "typo")
        with pytest.raises(TenantInUseError, match="Cannot remove tenant acme, since records refer to it: 3 pools"):
            await remove_tenant(platform, "acme")
