"""The activities that open an order before its first step and close it after its last."""

import structlog
from sqlalchemy import text
from temporalio import activity

from activities.base import Activities, failing_by_type
from activities.messages import OpenedOrder, OrderClosing, OrderOpening, StepContext
from activities.refusals import Verdict, verdict_on
from lastmile.services.line_matching import check_line
from lastmile.subscribers import orders
from lastmile.subscribers.errors import LineDiffersError
from lastmile.subscribers.order_records import ORDER_RECORDS
from lastmile.telemetry.metrics import ORDER_SECONDS_TAKEN, ORDERS, STEPS

__all__ = ["OrderActivities"]

log = structlog.get_logger("lastmile.orders")

# The rows of a lost order become rows of the order that takes over: it keeps them, or undoes them with its own.
_TAKE_OVER = [
    text(f"UPDATE {records.table} SET {column} = :heir WHERE {column} = ANY(:lost)")
    for records in ORDER_RECORDS.values()
    for column in records.order_columns
]


class OrderActivities(Activities):
    """The activities on the order's own row."""

    @activity.defn
    @failing_by_type
    async def open_order(self, ref: StepContext, opening: OrderOpening) -> OpenedOrder:
        """Open the order. Return its result where the order has ended before.

        The order takes over the rows of a lost order of the same operation: it keeps them, or undoes them with its own.
        Raises `LineDiffersError` where the subscriber has another line in service than the order asks for.
        """
        async with self._database.tenant(ref.tenant) as connection:
            found = await orders.open_order(
                connection,
                ref.tenant,
                ref.order_id,
                opening.operation,
                ref.subscriber_ref,
                opening.digest,
                activity.info().workflow_run_id or "",
                ref.requested_by,
            )
            if found.new and opening.line is not None:
                try:
                    await check_line(connection, ref.tenant, ref.subscriber_ref, ref.order_id, opening.line)
                except LineDiffersError:  # the order keeps no row, so `close_order` will not count it
                    ORDERS.labels(opening.operation, ref.tenant, Verdict.REFUSED).inc()
                    raise
            for take_over in _TAKE_OVER if found.superseded else ():
                await connection.execute(take_over, {"heir": ref.order_id, "lost": list(found.superseded)})
        return OpenedOrder(result=found.result, outdated=found.outdated, taken_over=found.taken_over)

    @activity.defn
    @failing_by_type
    async def begin_rollback(self, ref: StepContext) -> None:
        """Fence the order: from here on none of its steps can act, not even a late attempt."""
        async with self._order(ref):
            pass

    @activity.defn
    @failing_by_type
    async def close_order(self, ref: StepContext, closing: OrderClosing) -> None:
        """Record how the order ended, and count it once, even if replies get lost."""
        async with self._database.tenant(ref.tenant) as connection:
            status = orders.OrderStatus(closing.status)
            closed = await orders.close_order(connection, ref.order_id, status, closing.result)
        if closed is not None:
            _count(ref, closing, closed)


def _count(ref: StepContext, closing: OrderClosing, closed: orders.ClosedOrder) -> None:
    outcome = _outcome(closing)
    ORDERS.labels(closed.operation, ref.tenant, outcome).inc()
    ORDER_SECONDS_TAKEN.labels(closed.operation, ref.tenant).observe(closed.seconds)
    for step, ended in closing.outcomes.items():
        STEPS.labels(step, ref.tenant, ended).inc()
    log.info(
        "order.ended",
        operation=closed.operation,
        status=closing.status,
        outcome=outcome,
        seconds=round(closed.seconds, 3),
    )


def _outcome(closing: OrderClosing) -> str:
    """Return the label of the metric: the status, or why an order was rolled back without a failure."""
    if closing.cancelled:
        return "cancelled"
    if closing.status == orders.OrderStatus.ROLLED_BACK and verdict_on(closing.failure) is Verdict.REFUSED:
        return Verdict.REFUSED
    return closing.status
