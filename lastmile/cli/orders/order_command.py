"""Make a command of a function with the own options of an order type, by adding what all orders have in common."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import typer

from lastmile.cli.exit_codes import EPILOG, run
from lastmile.cli.options import DryRun, Json, NotBefore, OrderId, Subscriber, Tenant

__all__ = ["Content", "order_command"]

Content = dict[str, Any]
"""The own fields of an order. A field that is None was not given."""


def order_command(
    commands: typer.Typer, renamed: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Callable[..., Content]], Callable[..., Content]]:
    """Add the command of one order type to `commands`.

    The decorated function has the name of the operation, the help text, and the own options as its parameters. It
    returns the content of the order.

    `renamed`: the option of a field whose option does not have the field's name, for messages.
    """

    def add(content: Callable[..., Content]) -> Callable[..., Content]:
        def command(
            subscriber: Subscriber,
            *,
            tenant: Tenant = None,
            order_id: OrderId = None,
            not_before: NotBefore = None,
            dry_run: DryRun = False,
            json: Json = False,
            **own: Any,
        ) -> None:
            from lastmile.cli.orders.single_order import run_order
            from lastmile.contract import Operation
            from lastmile.contract.operations import OPERATIONS

            run(
                run_order(
                    OPERATIONS[Operation(content.__name__)].model,
                    subscriber,
                    content(**own),
                    tenant=tenant,
                    order_id=order_id,
                    not_before=not_before,
                    dry_run=dry_run,
                    as_json=json,
                    renamed=renamed,
                )
            )

        # Typer reads the options from the signature: the own options come between the subscriber and the common ones.
        subscriber, *common, _ = inspect.signature(command).parameters.values()
        own = [
            option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for option in inspect.signature(content).parameters.values()
        ]
        options = [subscriber, *own, *common]
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # typeshed lacks it
        command.__annotations__ = {option.name: option.annotation for option in options}
        command.__doc__ = content.__doc__
        commands.command(content.__name__.replace("_", "-"), epilog=EPILOG)(command)
        return content

    return add
