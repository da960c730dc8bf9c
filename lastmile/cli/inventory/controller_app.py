"""The commands `lastmile controller` with their options."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lastmile.cli.arguments import number, whole_number
from lastmile.cli.exit_codes import EPILOG, run
from lastmile.cli.options import Json

__all__ = ["controller"]

controller = typer.Typer(
    help="Manage controllers: the systems that switch ONUs (OLT controllers) and configure CPEs (ACS).",
    no_args_is_help=True,
)


@controller.command("add", epilog=EPILOG)
def controller_add(
    name: Annotated[str, typer.Argument(help="A name for the controller.")],
    driver: Annotated[str, typer.Option(help="The driver that talks to it. An unknown name shows all drivers.")],
    url: Annotated[str, typer.Option(help="Where it answers, as in https://acs.example.net:7557.")],
    username: Annotated[str, typer.Option(help="The user name of Lastmile there. Default: none.")] = "",
    tenant: Annotated[
        str | None, typer.Option(help="The only tenant whose devices it controls. Default: every tenant.")
    ] = None,
    olt: Annotated[
        list[str] | None,
        typer.Option(help="An OLT whose ONUs it controls, as orders name the OLT. Repeatable. Default: any OLT."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="The OUI (the first six digits of the MAC address) or the product class of CPEs that it controls. "
            "Repeatable. Default: any CPE.",
        ),
    ] = None,
    ca_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The CA certificates that sign its certificate, in PEM: a path on the machine of each worker. "
            "Default: those of the system.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(parser=number, metavar="SECONDS", help="How long one request may take: 1 to 300.")
    ] = 10,
    in_flight: Annotated[
        int,
        typer.Option(parser=whole_number, metavar="N", help="The most calls at once of each worker: 1 to 1000."),
    ] = 8,
    options_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What the driver needs beside this, as a JSON object.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the controller of this name, as for another password.")
    ] = False,
    json: Json = False,
) -> None:
    """Add a controller. Workers use it after some ten seconds.

    The command asks for the password or token. Without a terminal it reads them from standard input.
    """
    from lastmile.cli.inventory.controllers import controller_add

    values = {
        "name": name,
        "driver": driver,
        "url": url,
        "username": username,
        "tenant": tenant,
        "olts": olt or [],
        "models": model or [],
        "ca_file": ca_file,
        "timeout_seconds": timeout,
        "in_flight": in_flight,
        "secret": _read_secret(),
    }
    run(controller_add(values, options_file, replace=replace, as_json=json))


def _read_secret() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password or token (empty: none)", default="", show_default=False, hide_input=True))
    return sys.stdin.read().rstrip("\r\n")


@controller.command("list")
def controller_list(json: Json = False) -> None:
    """List all controllers, without their passwords."""
    from lastmile.cli.inventory.controllers import controller_list

    run(controller_list(as_json=json))


@controller.command("check", epilog=EPILOG)
def controller_check(json: Json = False) -> None:
    """Ask each controller for its product and version. The exit code is 3 if one does not answer."""
    from lastmile.cli.inventory.controllers import controller_check

    run(controller_check(as_json=json))


@controller.command("remove", epilog=EPILOG)
def controller_remove(
    name: Annotated[str, typer.Argument(help="The name of the controller.")], json: Json = False
) -> None:
    """Remove a controller. Device steps that no controller is responsible for are skipped from then on."""
    from lastmile.cli.inventory.controllers import controller_remove

    run(controller_remove(name, as_json=json))
