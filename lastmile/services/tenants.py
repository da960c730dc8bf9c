"""Tenants: add, list and show them. Their removal needs Temporal: `lastmile.client.tenant_removal`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import func, select

from ipam.pools import list_pools
from lastmile.contract.lines import TenantId
from lastmile.db import Database
from lastmile.fields.text import PRINTABLE
from lastmile.subscribers import tenants
from lastmile.subscribers.errors import UnknownTenantError
from lastmile.subscribers.tables import subscribers

__all__ = ["NewTenant", "Tenant", "TenantDetails", "add_tenant", "list_tenants", "show_tenant"]


class NewTenant(BaseModel):
    """A tenant to add."""

    id: TenantId
    name: Annotated[str, Field(strict=True, min_length=1, max_length=200), PRINTABLE]


@dataclass(frozen=True, slots=True)
class Tenant:
    """An ISP, or a brand of an ISP, that shares this installation."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TenantDetails:
    """A tenant with its current subscribers and the pools that serve it."""

    tenant: Tenant
    subscribers: int
    pools: list[str]


async def add_tenant(database: Database, tenant: NewTenant, *, actor: str) -> bool:
    """Add a tenant. Return False if it exists already. Raises `RecordConflictError` if it has another name."""
    async with database.platform(actor=actor) as connection:
        return await tenants.add_tenant(connection, tenant.id, tenant.name)


async def list_tenants(database: Database) -> list[Tenant]:
    """Return all tenants, by id."""
    async with database.platform() as connection:
        return [Tenant(**row) for row in await tenants.list_tenants(connection)]


async def show_tenant(database: Database, tenant: str) -> TenantDetails:
    """Return one tenant. Raises `UnknownTenantError`."""
    found = next((one for one in await list_tenants(database) if one.id == tenant), None)
    if found is None:
        raise UnknownTenantError(f"There is no tenant {tenant}: `lastmile tenant list` lists all tenants.")
    async with database.platform() as connection:
        pools = [use.pool.name for use in await list_pools(connection) if use.pool.tenant in (tenant, None)]
    current = select(func.count()).select_from(subscribers).where(subscribers.c.archived_at.is_(None))
    async with database.tenant(tenant) as connection:
        count = await connection.scalar(current) or 0
    return TenantDetails(found, count, pools)
