"""The options of `lastmile scheduled`."""

from typing import Annotated

import typer

from cli.exits import run

__all__ = ["scheduled"]

scheduled = typer.Typer(help="The orders that wait for a later date.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON, one object a line.")]
OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.")]
Tenant = Annotated[str | None, typer.Option(help="May be left out where there is one tenant only.")]


@scheduled.command("list")
def scheduled_list(
    tenant: Annotated[str | None, typer.Option(help="Only this one's.")] = None,
    json: Json = False,
) -> None:
    """All orders that wait, the next one first."""
    from cli.scheduled import scheduled_list

    run(scheduled_list(tenant, json))


@scheduled.command("move")
def scheduled_move(
    order: OrderId,
    time: Annotated[str, typer.Argument(metavar="TIME", help="With its time zone: 2030-05-03T14:00:00+02:00.")],
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Start an order at another time."""
    from cli.scheduled import scheduled_move

    run(scheduled_move(order, time, tenant, json))


@scheduled.command("cancel")
def scheduled_cancel(order: OrderId, tenant: Tenant = None, json: Json = False) -> None:
    """Delete an order that has not started."""
    from cli.scheduled import scheduled_cancel

    run(scheduled_cancel(order, tenant, json))
