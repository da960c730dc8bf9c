"""Tenants: the ISPs, or brands of one, that share a Lastmile."""

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import RowMapping

from lastmile.db import PlatformConnection
from lastmile.subscribers.errors import RecordConflictError, TenantInUseError, UnknownTenantError
from lastmile.subscribers.tables import tenants

__all__ = ["add_tenant", "list_tenants", "remove_tenant"]

# Everything that names a tenant. What is in the past counts: orders, billing events and the history are kept.
_LEFT = text(
    """
    SELECT (SELECT count(*) FROM pools WHERE tenant_id = :tenant) AS pools,
           (SELECT count(*) FROM subscribers WHERE tenant_id = :tenant) AS subscribers,
           (SELECT count(*) FROM customers WHERE tenant_id = :tenant) AS customers,
           (SELECT count(*) FROM orders WHERE tenant_id = :tenant) AS orders,
           (SELECT count(*) FROM delegations WHERE tenant_id = :tenant) AS delegations,
           (SELECT count(*) FROM billing_events WHERE tenant_id = :tenant) AS "billing events",
           (SELECT count(*) FROM delegation_events WHERE tenant_id = :tenant) AS "history entries",
           (SELECT count(*) FROM netbox_removals WHERE tenant_id = :tenant) AS "NetBox records to remove",
           (SELECT count(*) FROM radcheck WHERE tenant_id = :tenant) AS "RADIUS items"
    """
)


async def add_tenant(connection: PlatformConnection, tenant: str, name: str) -> bool:
    """Add a tenant; returns False where it exists. Raises `RecordConflictError` where it exists under another name."""
    made = await connection.scalar(
        insert(tenants).values(id=tenant, name=name).on_conflict_do_nothing().returning(tenants.c.id)
    )
    if made is not None:
        return True
    existing = await connection.scalar(select(tenants.c.name).where(tenants.c.id == tenant))
    if existing != name:
        raise RecordConflictError(f"tenant {tenant} exists, and is called {existing!r}")
    return False


async def list_tenants(connection: PlatformConnection) -> list[RowMapping]:
    """Every tenant: `id`, `name`, `created_at`."""
    return list((await connection.execute(select(tenants).order_by(tenants.c.id))).mappings())


async def remove_tenant(connection: PlatformConnection, tenant: str) -> None:
    """Remove a tenant that nothing names. Raises `UnknownTenantError` and `TenantInUseError`."""
    locked = await connection.scalar(select(tenants.c.id).where(tenants.c.id == tenant).with_for_update())
    if locked is None:
        raise UnknownTenantError(f"There is no tenant {tenant}: `lastmile tenant list` shows those there are.")
    left = (await connection.execute(_LEFT, {"tenant": tenant})).mappings().one()
    if any(left.values()):
        words = ", ".join(f"{count:,} {what}" for what, count in left.items() if count)
        raise TenantInUseError(
            f"Tenant {tenant} cannot be removed, because records name it: {words}. Remove its pools with "
            "`lastmile pool remove`; orders and history are kept, so a tenant that has had orders stays."
        )
    await connection.execute(delete(tenants).where(tenants.c.id == tenant))
