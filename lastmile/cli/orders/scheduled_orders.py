"""`lastmile scheduled`: orders that wait for their time."""

from datetime import UTC, datetime
from operator import attrgetter

from lastmile.cli.connections import find_tenant, load_settings, open_operator
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, make_table, print_error, print_json, print_result, print_text
from lastmile.cli.times import zoned_time
from lastmile.client.scheduled_orders import ScheduledOrder, describe_unreadable
from lastmile.errors import InvalidInputError
from lastmile.fields.phrases import format_time

__all__ = ["scheduled_cancel", "scheduled_list", "scheduled_move"]


async def scheduled_list(tenant: str | None, as_json: bool) -> Exit:
    """List the scheduled orders, the next first; BAD_INPUT if this process lacks the encryption key of one."""
    settings = load_settings()
    if tenant is not None:
        await find_tenant(settings, tenant)
    async with open_operator(settings) as operator:
        waiting = sorted([order async for order in operator.orders.scheduled.waiting(tenant)], key=attrgetter("at"))
    if as_json:
        for order in waiting:
            print_json(order.as_json())
    elif not waiting:
        print_text("No order is scheduled. `lastmile provision FILE` schedules orders with a `not_before` ahead.")
    else:
        columns = ("starts", "tenant", "order", "subscriber", "operation", "paused", "schedule")
        console.print(make_table("", columns, [_row(order) for order in waiting], spare=("schedule",)))
    if problem := describe_unreadable(waiting):
        print_error(problem)
        return Exit.BAD_INPUT
    return Exit.DONE


async def scheduled_move(order_id: str, time: str, tenant: str | None, as_json: bool) -> Exit:
    """Start the order at another time. Raises `NotScheduledError`."""
    at = _moment(time)
    settings = load_settings()
    tenant = await find_tenant(settings, tenant)
    async with open_operator(settings) as operator:
        moved = await operator.orders.scheduled.move(tenant, order_id, at)
    of_subscriber = f" of subscriber {moved.subscriber_ref}" if moved.subscriber_ref else ""
    print_result(
        f"Order {order_id}{of_subscriber} starts at {format_time(moved.at)}.",
        as_json,
        **moved.as_json(),
    )
    return Exit.DONE


async def scheduled_cancel(order_id: str, tenant: str | None, as_json: bool) -> Exit:
    """Delete the order's Schedule. Raises `NotScheduledError`."""
    settings = load_settings()
    tenant = await find_tenant(settings, tenant)
    async with open_operator(settings) as operator:
        await operator.orders.scheduled.cancel(tenant, order_id)
    words = f"Order {order_id} is cancelled. It had not started."
    print_result(words, as_json, tenant=tenant, order_id=order_id, cancelled=True)
    return Exit.DONE


def _moment(time: str) -> datetime:
    moment = zoned_time("TIME", time)
    if moment <= datetime.now(UTC):
        raise InvalidInputError(
            f"TIME: {format_time(moment)} is in the past. To start it now, cancel it here and send it without "
            "not_before."
        )
    return moment


def _row(order: ScheduledOrder) -> tuple[str, ...]:
    paused = "in Temporal" if order.paused else ""
    return (
        format_time(order.at),
        order.tenant,
        order.order_id,
        order.subscriber_ref,
        order.operation,
        paused,
        order.schedule,
    )
