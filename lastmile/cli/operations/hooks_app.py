"""The commands `lastmile hooks` with their options."""

from typing import Annotated

import typer

from lastmile.cli.arguments import whole_number
from lastmile.cli.exit_codes import run
from lastmile.cli.options import Json

__all__ = ["hooks"]

hooks = typer.Typer(help="Manage CRMs that send events by webhook, and the events that are kept.", no_args_is_help=True)

Numbers = Annotated[
    list[int] | None,
    typer.Argument(
        parser=whole_number, metavar="[NUMBER]...", help="The numbers of events, as `lastmile hooks list` has them."
    ),
]


@hooks.command("add")
def hooks_add(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A name for the source. The CRM calls /hooks/SOURCE.")
    ],
    mapping: Annotated[str, typer.Option(help="The mapping of its events to orders, as in uisp.")],
    tenant: Annotated[
        str | None, typer.Option(help="The tenant that the events are for. Optional where only one exists.")
    ] = None,
    secret_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="The secret that the CRM has made. Default: Lastmile makes one, and shows it."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Add a source, and show its secret. It cannot be shown again."""
    from lastmile.cli.operations.hooks import hooks_add

    run(hooks_add(source, mapping=mapping, tenant=tenant, secret_file=secret_file, as_json=json))


@hooks.command("sources")
def hooks_sources(json: Json = False) -> None:
    """List the sources."""
    from lastmile.cli.operations.hooks import hooks_sources

    run(hooks_sources(as_json=json))


@hooks.command("remove")
def hooks_remove(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The name of the source.")], json: Json = False
) -> None:
    """Remove a source. The API refuses its requests after at most 10 seconds. Its events stay."""
    from lastmile.cli.operations.hooks import hooks_remove

    run(hooks_remove(source, as_json=json))


@hooks.command("list")
def hooks_list(
    tenant: Annotated[str | None, typer.Option(help="Only events of this tenant. Default: all tenants.")] = None,
    json: Json = False,
) -> None:
    """List the events that are kept, since no order could be made of them, the oldest first."""
    from lastmile.cli.operations.hooks import hooks_list

    run(hooks_list(tenant, as_json=json))


@hooks.command("retry")
def hooks_retry(
    numbers: Numbers = None,
    json: Json = False,
) -> None:
    """Map events that are kept again, the oldest first: those of the numbers, or all."""
    from lastmile.cli.operations.hooks import hooks_retry

    run(hooks_retry(numbers or [], as_json=json))


@hooks.command("ignore")
def hooks_ignore(
    number: Annotated[
        int,
        typer.Argument(
            parser=whole_number, metavar="NUMBER", help="The number of the event, as `lastmile hooks list` has it."
        ),
    ],
    why: Annotated[str, typer.Option(help="Why the event needs no order. No personal data.")],
    json: Json = False,
) -> None:
    """Decide that an event that is kept needs no order. Its body is deleted."""
    from lastmile.cli.operations.hooks import hooks_ignore

    run(hooks_ignore(number, why=why, as_json=json))
