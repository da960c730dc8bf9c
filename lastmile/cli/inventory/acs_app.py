"""The commands `lastmile acs` with their options."""

from pathlib import Path
from typing import Annotated

import typer

from lastmile.cli.exit_codes import EPILOG, run
from lastmile.cli.options import Json

__all__ = ["acs"]

acs = typer.Typer(help="Prepare the ACS that configures CPEs.", no_args_is_help=True)


@acs.command("setup", epilog=EPILOG)
def acs_setup(
    name: Annotated[str, typer.Argument(help="The name of a controller with the driver genieacs.")],
    extension_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write Lastmile's extension to this file. Copy it to GenieACS's directory of extensions as "
            "lastmile.js.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Install in a GenieACS what keeps CPEs configured. A repeated command changes nothing."""
    from lastmile.cli.inventory.acs import acs_setup

    run(acs_setup(name, extension_file, as_json=json))


@acs.callback()
def _group() -> None:
    """Keep `setup` a command of the group while it is the only one."""
