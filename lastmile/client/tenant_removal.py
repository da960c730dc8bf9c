"""The removal of a tenant: neither a record nor a scheduled order may name it."""

from lastmile.client.scheduled_orders import ScheduledOrders
from lastmile.db import Database
from lastmile.subscribers import tenants
from lastmile.subscribers.errors import TenantInUseError

__all__ = ["remove_tenant"]


async def remove_tenant(database: Database, scheduled: ScheduledOrders, tenant: str, *, actor: str) -> None:
    """Remove an unused tenant. Raises `UnknownTenantError` and `TenantInUseError`."""
    async with database.platform(actor=actor) as connection:
        await tenants.remove_tenant(connection, tenant)
        if waiting := [order async for order in scheduled.waiting(tenant)]:
            words = f"{len(waiting):,} of its orders are scheduled: `lastmile scheduled cancel` deletes each."
            raise TenantInUseError(f"Tenant {tenant} cannot be removed, because {words}")
