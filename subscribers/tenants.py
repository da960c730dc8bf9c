"""Tenants: the ISPs, or brands of one, that share a Lastmile."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import RowMapping

from db import PlatformConnection
from subscribers.errors import Conflict
from subscribers.tables import tenants

__all__ = ["add_tenant", "list_tenants"]


async def add_tenant(connection: PlatformConnection, tenant: str, name: str) -> bool:
    """Add a tenant; returns False where it exists. Raises `Conflict` where it exists under another name."""
    made = await connection.scalar(
        insert(tenants).values(id=tenant, name=name).on_conflict_do_nothing().returning(tenants.c.id)
    )
    if made is not None:
        return True
    existing = await connection.scalar(select(tenants.c.name).where(tenants.c.id == tenant))
    if existing != name:
        raise Conflict(f"tenant {tenant} exists, and is called {existing!r}")
    return False


async def list_tenants(connection: PlatformConnection) -> list[RowMapping]:
    """Every tenant: `id`, `name`, `created_at`."""
    return list((await connection.execute(select(tenants).order_by(tenants.c.id))).mappings())
