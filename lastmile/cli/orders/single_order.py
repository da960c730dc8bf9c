"""One order, made of the options of a command: run it, or show what it would do."""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from lastmile.cli.connections import find_tenant, load_settings, open_operator
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.orders.dry_run import show_plan
from lastmile.cli.orders.import_report import exit_code, order_table
from lastmile.cli.output import console, print_error, print_json
from lastmile.client.order_import.runs import EndedOrder, OrderRuns
from lastmile.contract import AnyOrder, Order
from lastmile.errors import InvalidInputError
from lastmile.settings import Settings
from lastmile.validation_messages import mistakes

__all__ = ["run_order"]


async def run_order(
    model: type[AnyOrder],
    subscriber: str,
    content: Mapping[str, Any],
    *,
    tenant: str | None,
    order_id: str | None,
    not_before: str | None,
    dry_run: bool,
    as_json: bool,
    renamed: Mapping[str, str],
) -> Exit:
    """Run an order of one subscriber, now or at `not_before`, and wait until it has ended.

    `content`: the order's own fields; a field that is None was not given. `renamed`: the option of a field whose
    option does not have the field's name, for messages.
    """
    settings = load_settings()
    command = model.operation.replace("_", "-")
    values = {
        "tenant": tenant or "unnamed",
        "order_id": order_id or f"{command}-{secrets.token_hex(6)}",
        "subscriber_ref": subscriber,
        "not_before": not_before,
        **_given(content),
    }
    try:
        order = model.model_validate(values)
    except ValidationError as failure:
        options = {**_options(model), **renamed}
        raise InvalidInputError(f"Cannot {command.replace('-', ' ')}:", mistakes(failure, model, options)) from None
    order = order.model_copy(update={"tenant": await find_tenant(settings, tenant)})
    if dry_run:
        return await show_plan(settings, order, as_json=as_json)
    if not as_json:
        console.print(f"Order {order.order_id}", markup=False)
    ended = await _run(settings, order)
    if as_json:
        print_json(ended.as_json())
    else:
        console.print(order_table(ended))
    return exit_code(ended)


def _given(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that were given, and those of each part of the order."""
    return {
        field: _given(value) if isinstance(value, Mapping) else value
        for field, value in content.items()
        if value is not None
    }


def _options(model: type[Order]) -> dict[str, str]:
    """Return the option of each field, and of each field of a part: `--vrf` is the option of `addressing.vrf`."""
    options = {}
    for name, field in model.model_fields.items():
        options[name] = _option(name)
        if isinstance(part := field.annotation, type) and issubclass(part, BaseModel):
            options |= {f"{name}.{inner}": _option(inner) for inner in part.model_fields}
    return {**options, "subscriber_ref": "SUBSCRIBER"}


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


async def _run(settings: Settings, order: AnyOrder) -> EndedOrder:
    ended: list[EndedOrder] = []
    async with (
        open_operator(settings) as operator,
        OrderRuns(operator, print_error, requested_by=current_user()) as runs,
    ):
        try:
            await runs.begin(order, ended.append)
            await runs.finish()
        except asyncio.CancelledError:
            subscriber = order.subscriber_ref
            if runs.started:
                print_error(f"Interrupted. The order continues: `lastmile status {subscriber}` shows it.")
            raise
    return ended[0]
