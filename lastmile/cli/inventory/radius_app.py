"""The commands `lastmile radius` with their options."""

from typing import Annotated

import typer

from lastmile.cli.arguments import whole_number
from lastmile.cli.exit_codes import EPILOG, run
from lastmile.cli.options import Json

__all__ = ["radius"]

radius = typer.Typer(help="Manage the RADIUS attributes of plans.", no_args_is_help=True)
template = typer.Typer(
    help="Manage attribute templates: the RADIUS attributes of rates, of a walled garden and of a slow line.",
    no_args_is_help=True,
)
radius.add_typer(template, name="template")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the template, as in mikrotik.")]
File = Annotated[
    str,
    typer.Argument(help="Templates as `lastmile radius template show` prints them; - reads standard input."),
]


@template.command("list")
def template_list(json: Json = False) -> None:
    """List all templates."""
    from lastmile.cli.inventory.radius_templates import template_list

    run(template_list(json))


@template.command("show")
def template_show(template: Name, json: Json = False) -> None:
    """Show a template as TOML, to edit it and give it to `lastmile radius template set`."""
    from lastmile.cli.inventory.radius_templates import template_show

    run(template_show(template, json))


@template.command("check", epilog=EPILOG)
def template_check(file: File, json: Json = False) -> None:
    """Check the templates of a file, and change nothing."""
    from lastmile.cli.inventory.radius_templates import template_check

    run(template_check(file, json))


@template.command("set", epilog=EPILOG)
def template_set(file: File, json: Json = False) -> None:
    """Add or replace the templates of a file. The groups of all plans get the new attributes at once.

    A live session keeps its attributes until its next login.
    """
    from lastmile.cli.inventory.radius_templates import template_set

    run(template_set(file, json))


@template.command("reset", epilog=EPILOG)
def template_reset(template: Name, json: Json = False) -> None:
    """Bring back a template that comes with Lastmile, or remove one that does not."""
    from lastmile.cli.inventory.radius_templates import template_reset

    run(template_reset(template, json))


@template.command("use", epilog=EPILOG)
def template_use(
    templates: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="The templates. Default: the present ones stay.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant. Optional where only one tenant exists.")] = None,
    slow_download: Annotated[
        int | None,
        typer.Option(
            parser=whole_number,
            metavar="KBPS",
            help="The download rate of slow lines and the walled garden.",
        ),
    ] = None,
    slow_upload: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="KBPS", help="The upload rate of slow lines and the walled garden."),
    ] = None,
    json: Json = False,
) -> None:
    """Choose the templates of a tenant, whose groups then hold the attributes of all of them, and its slow rates.

    Without a template and a rate, show the present choice.
    """
    from lastmile.cli.inventory.radius_templates import template_use

    run(template_use(templates or [], (slow_download, slow_upload), tenant=tenant, as_json=json))
