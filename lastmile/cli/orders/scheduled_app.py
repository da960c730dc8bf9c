"""The options of `lastmile scheduled`."""

from typing import Annotated

import typer

from lastmile.cli.exit_codes import run

__all__ = ["scheduled"]

scheduled = typer.Typer(help="Manage scheduled orders: orders that wait for their time.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]
OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.")]
Tenant = Annotated[str | None, typer.Option(help="The order's tenant. Optional where only one tenant exists.")]


@scheduled.command("list")
def scheduled_list(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant. Default: all tenants.")] = None,
    json: Json = False,
) -> None:
    """List the scheduled orders, the next first."""
    from lastmile.cli.orders.scheduled_orders import scheduled_list

    run(scheduled_list(tenant, json))


@scheduled.command("move")
def scheduled_move(
    order: OrderId,
    time: Annotated[
        str, typer.Argument(metavar="TIME", help="The new time with its time zone: 2030-05-03T14:00:00+02:00.")
    ],
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Move a scheduled order to another time."""
    from lastmile.cli.orders.scheduled_orders import scheduled_move

    run(scheduled_move(order, time, tenant, json))


@scheduled.command("cancel")
def scheduled_cancel(order: OrderId, tenant: Tenant = None, json: Json = False) -> None:
    """Cancel a scheduled order before it starts."""
    from lastmile.cli.orders.scheduled_orders import scheduled_cancel

    run(scheduled_cancel(order, tenant, json))
