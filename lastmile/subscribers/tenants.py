"""Tenants: the ISPs, or the brands of one ISP, that share an installation of Lastmile."""

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import RowMapping

from lastmile.db import PlatformConnection
from lastmile.subscribers.errors import RecordConflictError, TenantInUseError, UnknownTenantError
from lastmile.subscribers.tables import tenants

__all__ = ["add_tenant", "list_tenants", "remove_tenant"]

# Every kind of record that refers to a tenant. Past records count too: orders, billing events and history are kept.
_REFERENCES = text(
    """
    SELECT (SELECT count(*) FROM pools WHERE tenant_id = :tenant) AS pools,
           (SELECT count(*) FROM subscribers WHERE tenant_id = :tenant) AS subscribers,
           (SELECT count(*) FROM customers WHERE tenant_id = :tenant) AS customers,
           (SELECT count(*) FROM orders WHERE tenant_id = :tenant) AS orders,
           (SELECT count(*) FROM accepted_orders WHERE tenant_id = :tenant) AS "accepted orders",
           (SELECT count(*) FROM hook_events WHERE tenant_id = :tenant) AS "webhook events",
           (SELECT count(*) FROM delegations WHERE tenant_id = :tenant) AS delegations,
           (SELECT count(*) FROM billing_events WHERE tenant_id = :tenant) AS "billing events",
           (SELECT count(*) FROM delegation_events WHERE tenant_id = :tenant) AS "history entries",
           (SELECT count(*) FROM netbox_removals WHERE tenant_id = :tenant) AS "NetBox records to remove",
           (SELECT count(*) FROM radcheck WHERE tenant_id = :tenant) AS "RADIUS items"
    """
)


async def add_tenant(connection: PlatformConnection, tenant: str, name: str) -> bool:
    """Add a tenant. Return False if it exists.

    Raises:
        RecordConflictError: the tenant exists with another name.
    """
    made = await connection.scalar(
        insert(tenants).values(id=tenant, name=name).on_conflict_do_nothing().returning(tenants.c.id)
    )
    if made is not None:
        return True
    existing = await connection.scalar(select(tenants.c.name).where(tenants.c.id == tenant))
    if existing != name:
        raise RecordConflictError(f"Tenant {tenant} exists with the name {existing!r}. Use that name, or another id.")
    return False


async def list_tenants(connection: PlatformConnection) -> list[RowMapping]:
    """Return every tenant: `id`, `name`, `created_at`."""
    return list((await connection.execute(select(tenants).order_by(tenants.c.id))).mappings())


async def remove_tenant(connection: PlatformConnection, tenant: str) -> None:
    """Remove a tenant.

    Raises:
        UnknownTenantError: the tenant does not exist.
        TenantInUseError: records refer to the tenant.
    """
    locked = await connection.scalar(select(tenants.c.id).where(tenants.c.id == tenant).with_for_update())
    if locked is None:
        raise UnknownTenantError(f"Tenant {tenant} does not exist. `lastmile tenant list` shows every tenant.")
    references = (await connection.execute(_REFERENCES, {"tenant": tenant})).mappings().one()
    if any(references.values()):
        words = ", ".join(f"{count:,} {kind}" for kind, count in references.items() if count)
        raise TenantInUseError(
            f"Cannot remove tenant {tenant}, since records refer to it: {words}. Remove its pools with "
            "`lastmile pool remove`. Orders and history are kept, so a tenant that has had orders stays."
        )
    await connection.execute(delete(tenants).where(tenants.c.id == tenant))
