"""The commands `lastmile nas` with their options."""

from pathlib import Path
from typing import Annotated

import typer

from lastmile.cli.arguments import whole_number
from lastmile.cli.exit_codes import EPILOG, run

__all__ = ["nas"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]

nas = typer.Typer(help="Manage NAS: the access servers that receive Disconnect and CoA requests.", no_args_is_help=True)

CoaAddress = Annotated[
    str | None,
    typer.Option(help="The address that receives Disconnect and CoA requests. Default: the NAS's address."),
]
Type = Annotated[
    str | None,
    typer.Option(
        "--type",
        help="The attribute template that the NAS understands in a CoA request, as `lastmile radius template list` "
        "shows it. Default: other, a type without attributes.",
    ),
]
SecretFile = Annotated[Path | None, typer.Option(help="The file with the new RADIUS secret.")]


@nas.command("add")
def nas_add(
    address: Annotated[str, typer.Argument(help="The IP address that the NAS sends from (NAS-IP-Address).")],
    name: Annotated[str, typer.Option(help="A short name for the NAS.")],
    secret_file: Annotated[
        Path | None, typer.Option(help="The file with the RADIUS secret. Default: the command asks for the secret.")
    ] = None,
    coa_address: CoaAddress = None,
    coa_port: Annotated[
        int,
        typer.Option(
            parser=whole_number,
            metavar="PORT",
            help="The UDP port that receives Disconnect and CoA requests (RFC 5176).",
        ),
    ] = 3799,
    type: Type = None,
    json: Json = False,
) -> None:
    """Add a NAS. The same command again changes nothing."""
    from lastmile.cli.inventory.nas import nas_add

    secret = secret_file or str(typer.prompt("RADIUS secret", hide_input=True))
    values = {"name": name, "coa_address": coa_address, "coa_port": coa_port, "type": type or "other"}
    run(nas_add(address, values, secret, json))


NasName = Annotated[str, typer.Argument(help="The NAS's name or address.")]


@nas.command("set", epilog=EPILOG)
def nas_set(
    nas: NasName,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    secret_file: SecretFile = None,
    ask_secret: Annotated[bool, typer.Option("--ask-secret", help="Ask for a new RADIUS secret.")] = False,
    coa_address: CoaAddress = None,
    coa_port: Annotated[
        int | None,
        typer.Option(
            parser=whole_number,
            metavar="PORT",
            help="The UDP port that receives Disconnect and CoA requests (RFC 5176).",
        ),
    ] = None,
    type: Type = None,
    json: Json = False,
) -> None:
    """Change a NAS: its name, its secret, its type, or the address and port for Disconnect and CoA requests.

    To send the requests to the NAS's own address again, give that address as --coa-address.
    """
    from lastmile.cli.inventory.nas import nas_set

    secret = secret_file or (str(typer.prompt("RADIUS secret", hide_input=True)) if ask_secret else None)
    values = {"name": name, "coa_address": coa_address, "coa_port": coa_port, "type": type}
    run(nas_set(nas, values, secret, json))


@nas.command("remove", epilog=EPILOG)
def nas_remove(
    nas: NasName,
    force: Annotated[bool, typer.Option("--force", help="Remove the NAS even if it has open sessions.")] = False,
    json: Json = False,
) -> None:
    """Remove a NAS. A NAS with open sessions needs --force."""
    from lastmile.cli.inventory.nas import nas_remove

    run(nas_remove(nas, force, json))


@nas.command("list")
def nas_list(json: Json = False) -> None:
    """List all NAS, without their secrets."""
    from lastmile.cli.inventory.nas import nas_list

    run(nas_list(json))


@nas.command("show")
def nas_show(name: NasName, json: Json = False) -> None:
    """Show one NAS, without its secret."""
    from lastmile.cli.inventory.nas import nas_show

    run(nas_show(name, json))
