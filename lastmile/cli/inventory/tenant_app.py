"""The commands `lastmile tenant` with their options."""

from typing import Annotated

import typer

from lastmile.cli.exit_codes import run

__all__ = ["tenant"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]

tenant = typer.Typer(
    help="Manage tenants: the ISPs, or brands of an ISP, that share this installation.", no_args_is_help=True
)

TenantId = Annotated[
    str, typer.Argument(metavar="ID", help="The tenant's id: lower-case letters, digits and '-', as in acme.")
]


@tenant.command("add")
def tenant_add(
    id: TenantId, name: Annotated[str, typer.Option(help="The tenant's name for people.")], json: Json = False
) -> None:
    """Add a tenant. The same command again changes nothing."""
    from lastmile.cli.inventory.tenants import tenant_add

    run(tenant_add(id, name, json))


@tenant.command("list")
def tenant_list(json: Json = False) -> None:
    """List all tenants."""
    from lastmile.cli.inventory.tenants import tenant_list

    run(tenant_list(json))


@tenant.command("show")
def tenant_show(id: TenantId, json: Json = False) -> None:
    """Show one tenant with its pools and the number of its subscribers."""
    from lastmile.cli.inventory.tenants import tenant_show

    run(tenant_show(id, json))


@tenant.command("remove")
def tenant_remove(id: TenantId, json: Json = False) -> None:
    """Remove a tenant without pools that never had an order."""
    from lastmile.cli.inventory.tenants import tenant_remove

    run(tenant_remove(id, json))
