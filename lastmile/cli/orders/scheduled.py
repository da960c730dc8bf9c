"""`lastmile scheduled`: the orders that wait for their date."""

from datetime import UTC, datetime
from operator import attrgetter

from lastmile.cli.connections import Temporal, load_settings, the_tenant
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, print_json, say, table, tell, when
from lastmile.cli.times import zoned_time
from lastmile.client.scheduled_orders import ScheduledOrder
from lastmile.errors import InvalidInputError

__all__ = ["scheduled_cancel", "scheduled_list", "scheduled_move"]


async def scheduled_list(tenant: str | None, as_json: bool) -> Exit:
    """What waits, the next one first."""
    settings = load_settings()
    if tenant is not None:
        await the_tenant(settings, tenant)
    temporal = await Temporal.connect(settings)
    waiting = sorted([order async for order in temporal.orders.scheduled.waiting(tenant)], key=attrgetter("at"))
    if as_json:
        for order in waiting:
            print_json(order.as_json())
    elif not waiting:
        say("No order is scheduled. `lastmile provision FILE` schedules orders with a `not_before` ahead.")
    else:
        columns = ("starts", "tenant", "order", "subscriber", "operation", "paused", "schedule")
        console.print(table("", columns, [_row(order) for order in waiting], spare=("schedule",)))
    return Exit.DONE


async def scheduled_move(order_id: str, time: str, tenant: str | None, as_json: bool) -> Exit:
    """Start the order at another time. Raises `NotScheduledError`."""
    at = _moment(time)
    settings = load_settings()
    tenant = await the_tenant(settings, tenant)
    temporal = await Temporal.connect(settings)
    moved = await temporal.orders.scheduled.move(tenant, order_id, at)
    tell(
        f"Order {order_id} of subscriber {moved.subscriber_ref} starts at {when(moved.at)}.", as_json, **moved.as_json()
    )
    return Exit.DONE


async def scheduled_cancel(order_id: str, tenant: str | None, as_json: bool) -> Exit:
    """Delete the order's Schedule. Raises `NotScheduledError`."""
    settings = load_settings()
    tenant = await the_tenant(settings, tenant)
    temporal = await Temporal.connect(settings)
    await temporal.orders.scheduled.cancel(tenant, order_id)
    words = f"Order {order_id} is cancelled. It had not started."
    tell(words, as_json, tenant=tenant, order_id=order_id, cancelled=True)
    return Exit.DONE


def _moment(time: str) -> datetime:
    moment = zoned_time("TIME", time)
    if moment <= datetime.now(UTC):
        raise InvalidInputError(
            f"TIME: {when(moment)} is in the past. To start it now, cancel it here and send it without not_before."
        )
    return moment


def _row(order: ScheduledOrder) -> tuple[str, ...]:
    paused = "in Temporal" if order.paused else ""
    return (
        when(order.at),
        order.tenant,
        order.order_id,
        order.subscriber_ref,
        order.operation,
        paused,
        order.schedule,
    )
