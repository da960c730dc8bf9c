"""`lastmile provision --dry-run`, `deprovision` and `cancel`."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from rich.table import Table

from lastmile.cli.connections import Temporal, load_settings, open_database, the_tenant
from lastmile.cli.exit_codes import Exit
from lastmile.cli.orders.dry_run import OrderPlan, dry_run
from lastmile.cli.orders.report import results
from lastmile.cli.orders.runs import Ended, Runs
from lastmile.cli.output import complain, console, mark, print_json, table, tell
from lastmile.client.orders import NotRunningError
from lastmile.contract import AnyOrder, DeprovisionSubscriber
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.reader import read_orders
from lastmile.settings import Settings
from lastmile.validation_messages import mistakes

__all__ = ["cancel", "deprovision", "plan"]

_OPTIONS = {
    "tenant": "--tenant",
    "order_id": "--order-id",
    "subscriber_ref": "SUBSCRIBER",
    "reason": "--reason",
    "not_before": "--not-before",
}


async def plan(source: str, as_json: bool) -> Exit:
    """Say what the orders of a file would do, and start nothing."""
    orders = read_orders(source)
    async with open_database(load_settings()) as database:
        plans = await dry_run(database, orders)
    if as_json:
        for one in plans:
            print_json(one.as_json())
    else:
        console.print(_plans(plans))
        refused = sum(one.refused for one in plans)
        console.print(f"Nothing was started. {len(plans) - refused} of {len(plans)} orders would be carried out.")
    return Exit.FAILED if any(one.refused for one in plans) else Exit.DONE


async def deprovision(
    subscriber: str,
    *,
    tenant: str | None,
    reason: str,
    order_id: str | None,
    not_before: str | None,
    as_json: bool,
) -> Exit:
    """Terminate the service of one subscriber, now or from a later time on."""
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
    order = order.model_copy(update={"tenant": await the_tenant(settings, tenant)})
    if not as_json:
        console.print(f"Order {order.order_id}", markup=False)
    return await _run(settings, order, as_json)


async def cancel(subscriber: str, tenant: str | None, as_json: bool) -> Exit:
    """Ask the subscriber's running order to stop and roll back."""
    settings = load_settings()
    tenant = await the_tenant(settings, tenant)
    temporal = await Temporal.connect(settings)
    if not await temporal.open_run(tenant, subscriber):
        raise NotRunningError(f"No order of subscriber {subscriber} is running: there is nothing to cancel.")
    await temporal.orders.cancel(tenant, subscriber)
    tell(
        f"Cancel requested. The order of {subscriber} undoes its steps; past the point of no return it continues to "
        f"its end. `lastmile status {subscriber}` shows the progress.",
        as_json,
        tenant=tenant,
        subscriber_ref=subscriber,
        cancel_requested=True,
    )
    return Exit.DONE


async def _run(settings: Settings, order: AnyOrder, as_json: bool) -> Exit:
    temporal = await Temporal.connect(settings)
    ends: list[Ended] = []
    async with Runs(temporal, complain) as runs:
        try:
            await runs.begin(order, ends.append)
            await runs.finish()
        except asyncio.CancelledError:
            subscriber = order.subscriber_ref
            if runs.started:
                complain(f"Interrupted. The order continues in Temporal: `lastmile status {subscriber}` shows it.")
            raise
    (end,) = ends
    if as_json:
        print_json(end.as_json())
    else:
        console.print(results(end))
    return end.exit


def _plans(plans: Sequence[OrderPlan]) -> Table:
    rows: list[tuple[Any, ...]] = []
    for one in plans:
        for index, step in enumerate(one.steps):
            head = (one.numbered.line, one.numbered.order.order_id) if index == 0 else ("", "")
            rows.append((*head, step.step, mark(step.action), step.detail))
        rows.append(("",) * 5)
    return table("", ("line", "order", "step", "action", "detail"), rows[:-1])
