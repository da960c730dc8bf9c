"""`lastmile tenant`."""

from dataclasses import asdict

from pydantic import ValidationError

from lastmile.cli.connections import connect_temporal, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, fact_table, print_all, print_json, print_result
from lastmile.client.tenant_removal import remove_tenant
from lastmile.errors import InvalidInputError
from lastmile.fields.phrases import format_time
from lastmile.services.tenants import NewTenant, add_tenant, list_tenants, show_tenant
from lastmile.validation_messages import mistakes

__all__ = ["tenant_add", "tenant_list", "tenant_remove", "tenant_show"]


async def tenant_add(tenant: str, name: str, as_json: bool) -> Exit:
    """Add a tenant. The same command again changes nothing."""
    try:
        new = NewTenant(id=tenant, name=name)
    except ValidationError as failure:
        problems = mistakes(failure, NewTenant, {"id": "ID", "name": "--name"})
        raise InvalidInputError("Invalid tenant:", problems) from None
    async with open_database(load_settings()) as database:
        added = await add_tenant(database, new, actor=current_user())
    print_result(
        f"Tenant {tenant} {'added' if added else 'exists already, unchanged'}.", as_json, tenant=tenant, added=added
    )
    return Exit.DONE


async def tenant_list(as_json: bool) -> Exit:
    """List all tenants."""
    async with open_database(load_settings()) as database:
        tenants = await list_tenants(database)
    print_all(
        [asdict(tenant) for tenant in tenants],
        as_json,
        ("tenant", "name", "since"),
        [(tenant.id, tenant.name, format_time(tenant.created_at)) for tenant in tenants],
        "There are no tenants yet. Add one: lastmile tenant add ID --name NAME",
    )
    return Exit.DONE


async def tenant_show(tenant: str, as_json: bool) -> Exit:
    """Show one tenant. Raises `UnknownTenantError`."""
    async with open_database(load_settings()) as database:
        found = await show_tenant(database, tenant)
    shown = asdict(found.tenant) | {"subscribers": found.subscribers, "pools": found.pools}
    if as_json:
        print_json(shown)
    else:
        pools = ", ".join(found.pools) or "none yet: lastmile pool add"
        console.print(fact_table("", shown | {"created_at": format_time(found.tenant.created_at), "pools": pools}))
    return Exit.DONE


async def tenant_remove(tenant: str, as_json: bool) -> Exit:
    """Remove an unused tenant. Raises `UnknownTenantError` and `TenantInUseError`."""
    settings = load_settings()
    operator = await connect_temporal(settings)
    async with open_database(settings) as database:
        await remove_tenant(database, operator.orders.scheduled, tenant, actor=current_user())
    print_result(f"Tenant {tenant} removed.", as_json, tenant=tenant, removed=True)
    return Exit.DONE
