"""The options of `lastmile tenant` and `nas`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.exits import EPILOG, run

__all__ = ["nas", "tenant"]

Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON, one object a line.")]

tenant = typer.Typer(help="The ISPs, or brands of one, that share a Lastmile.", no_args_is_help=True)
nas = typer.Typer(help="The access servers that take Disconnect and CoA requests.", no_args_is_help=True)

TenantId = Annotated[str, typer.Argument(metavar="ID", help="Lower-case letters, digits and '-': acme.")]


@tenant.command("add")
def tenant_add(
    id: TenantId, name: Annotated[str, typer.Option(help="What people call it.")], json: Json = False
) -> None:
    """Add a tenant; the same one again changes nothing."""
    from cli.inventory import tenant_add

    run(tenant_add(id, name, json))


@tenant.command("list")
def tenant_list(json: Json = False) -> None:
    """All tenants."""
    from cli.inventory import tenant_list

    run(tenant_list(json))


@tenant.command("show")
def tenant_show(id: TenantId, json: Json = False) -> None:
    """One tenant, with its pools and how many subscribers it has."""
    from cli.inventory import tenant_show

    run(tenant_show(id, json))


@tenant.command("remove")
def tenant_remove(id: TenantId, json: Json = False) -> None:
    """Remove a tenant that has no pool and never had an order."""
    from cli.inventory import tenant_remove

    run(tenant_remove(id, json))


CoaAddress = Annotated[
    str | None,
    typer.Option(help="Where it takes Disconnect and CoA requests, if not at the address that it sends from."),
]
SecretFile = Annotated[Path | None, typer.Option(help="The file that holds the RADIUS secret.")]


@nas.command("add")
def nas_add(
    address: Annotated[str, typer.Argument(help="The IP address that it sends from (NAS-IP-Address).")],
    name: Annotated[str, typer.Option(help="A short name.")],
    secret_file: Annotated[
        Path | None, typer.Option(help="The file that holds the RADIUS secret; without it, the secret is asked for.")
    ] = None,
    coa_address: CoaAddress = None,
    coa_port: Annotated[int, typer.Option(help="Where it takes Disconnect and CoA requests (RFC 5176).")] = 3799,
    json: Json = False,
) -> None:
    """Add a NAS; the same one again changes nothing."""
    from cli.nas import nas_add

    secret = secret_file or str(typer.prompt("RADIUS secret", hide_input=True))
    run(nas_add(address, {"name": name, "coa_address": coa_address, "coa_port": coa_port}, secret, json))


NasName = Annotated[str, typer.Argument(help="Its name or address.")]


@nas.command("set", epilog=EPILOG)
def nas_set(
    nas: NasName,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    secret_file: SecretFile = None,
    ask_secret: Annotated[bool, typer.Option("--ask-secret", help="Ask for a new RADIUS secret.")] = False,
    coa_address: CoaAddress = None,
    coa_port: Annotated[int | None, typer.Option(help="Where it takes Disconnect and CoA requests (RFC 5176).")] = None,
    json: Json = False,
) -> None:
    """Change a NAS: its name, its secret, or where it takes Disconnect and CoA requests.

    To send the requests to the NAS's own address again, name that with --coa-address.
    """
    from cli.nas import nas_set

    secret = secret_file or (str(typer.prompt("RADIUS secret", hide_input=True)) if ask_secret else None)
    run(nas_set(nas, {"name": name, "coa_address": coa_address, "coa_port": coa_port}, secret, json))


@nas.command("remove", epilog=EPILOG)
def nas_remove(
    nas: NasName,
    force: Annotated[bool, typer.Option("--force", help="Also while sessions are open on it.")] = False,
    json: Json = False,
) -> None:
    """Remove a NAS."""
    from cli.nas import nas_remove

    run(nas_remove(nas, force, json))


@nas.command("list")
def nas_list(json: Json = False) -> None:
    """All NAS; their secrets are never shown."""
    from cli.nas import nas_list

    run(nas_list(json))


@nas.command("show")
def nas_show(name: NasName, json: Json = False) -> None:
    """One NAS; its secret is never shown."""
    from cli.nas import nas_show

    run(nas_show(name, json))
