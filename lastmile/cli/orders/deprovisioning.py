"""`lastmile deprovision`."""

import asyncio
import secrets

from pydantic import ValidationError

from lastmile.cli.connections import connect_temporal, find_tenant, load_settings
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.orders.import_report import exit_code, order_table
from lastmile.cli.output import console, print_error, print_json
from lastmile.client.order_import.runs import EndedOrder, OrderRuns
from lastmile.contract import AnyOrder, DeprovisionSubscriber
from lastmile.errors import InvalidInputError
from lastmile.settings import Settings
from lastmile.validation_messages import mistakes

__all__ = ["deprovision"]

_OPTIONS = {
    "tenant": "--tenant",
    "order_id": "--order-id",
    "subscriber_ref": "SUBSCRIBER",
    "reason": "--reason",
    "not_before": "--not-before",
}


async def deprovision(
    subscriber: str,
    *,
    tenant: str | None,
    reason: str,
    order_id: str | None,
    not_before: str | None,
    as_json: bool,
) -> Exit:
    """Terminate the service of one subscriber, now or at `not_before`."""
    settings = load_settings()
    values = {
        "tenant": tenant or "unnamed",
        "order_id": order_id or f"deprovision-{secrets.token_hex(6)}",
        "subscriber_ref": subscriber,
        "reason": reason,
        "not_before": not_before,
    }
    try:
        order = DeprovisionSubscriber.model_validate(values)
    except ValidationError as failure:
        raise InvalidInputError("Cannot deprovision:", mistakes(failure, DeprovisionSubscriber, _OPTIONS)) from None
    order = order.model_copy(update={"tenant": await find_tenant(settings, tenant)})
    if not as_json:
        console.print(f"Order {order.order_id}", markup=False)
    ended = await _run(settings, order)
    if as_json:
        print_json(ended.as_json())
    else:
        console.print(order_table(ended))
    return exit_code(ended)


async def _run(settings: Settings, order: AnyOrder) -> EndedOrder:
    operator = await connect_temporal(settings)
    ended: list[EndedOrder] = []
    async with OrderRuns(operator, print_error, requested_by=current_user()) as runs:
        try:
            await runs.begin(order, ended.append)
            await runs.finish()
        except asyncio.CancelledError:
            subscriber = order.subscriber_ref
            if runs.started:
                print_error(f"Interrupted. The order continues in Temporal: `lastmile status {subscriber}` shows it.")
            raise
    return ended[0]
