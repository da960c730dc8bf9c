"""The arguments and options that several commands have."""

from typing import Annotated

import typer

__all__ = ["DryRun", "Json", "NotBefore", "OrderId", "Subscriber", "Tenant"]

Subscriber = Annotated[str, typer.Argument(help="The subscriber's reference, as in its order.")]
Tenant = Annotated[str | None, typer.Option(help="The subscriber's tenant. Optional where only one tenant exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for scripts.")]
OrderId = Annotated[
    str | None, typer.Option(help="Your id for this order. The same id again gives the same result. Default: a new id.")
]
NotBefore = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Start the order at this time, with its time zone: 2030-05-03T14:00:00+02:00. Default: now.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what the order would do, and start nothing.")]
