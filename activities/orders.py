"""The activities on an order's own row: open it, run groups of its steps, begin its rollback, close it.

The order's first steps share the transaction of the opening, the first undos that of the rollback's beginning, and the
last step that of the closing.
"""

from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import text
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.base import Activities, failing_by_type
from activities.messages import (
    CANCEL_REQUESTED,
    BegunRollback,
    GroupReport,
    OpenedOrder,
    OrderClosing,
    OrderOpening,
    StepCall,
    StepContext,
)
from activities.refusals import Verdict, verdict_on
from activities.run_status import is_wanted
from activities.step_groups import StepGroups
from lastmile.contract.operations import LineEffect
from lastmile.contract.results import OrderResult, StepResult
from lastmile.db import Database, TenantConnection
from lastmile.errors import OrderFencedError
from lastmile.services.line_matching import check_line
from lastmile.subscribers import orders, previous_values
from lastmile.subscribers.errors import LineDiffersError, LineStateError
from lastmile.subscribers.order_records import ORDER_RECORDS
from lastmile.telemetry.metrics import ORDER_SECONDS_TAKEN, ORDERS, STEPS

__all__ = ["OrderActivities"]

log = structlog.get_logger("lastmile.orders")

SUCCESSES = {orders.OrderStatus.COMPLETED, orders.OrderStatus.DEGRADED}
_OF_A_STEP = {"outcome", "reason", "started_at", "seconds"}

# The rows of a lost order become rows of the order that takes over: it keeps them, or undoes them with its own.
_TAKE_OVER = [
    text(f"UPDATE {records.table} SET {column} = :heir WHERE {column} = ANY(:lost)")
    for records in ORDER_RECORDS.values()
    for column in records.order_columns
]


class OrderActivities(Activities):
    """The activities on the order's own row."""

    def __init__(self, database: Database, groups: StepGroups) -> None:
        super().__init__(database)
        self._groups = groups

    @activity.defn
    @failing_by_type
    async def open_order(self, ref: StepContext, opening: OrderOpening) -> OpenedOrder:
        """Open the order, and run its first steps. Return its result where the order has ended before.

        The order takes over the rows of a lost order of the same operation: it keeps them, or undoes them with its own.
        Raises `LineDiffersError` where the subscriber has another line in service than the order asks for,
        `LineStateError` where the line is suspended, and `OrderFencedError` in a late attempt of a terminated run.
        """
        async with self._enter(ref, orders.OPENING_FENCE) as connection:
            found = await orders.open_order(
                connection,
                ref.tenant,
                ref.order_id,
                opening.operation,
                ref.subscriber_ref,
                opening.digest,
                activity.info().workflow_run_id or "",
                ref.requested_by,
                opening.run_started_at,
                adopts=ref.adopts,
            )
            if found.new and opening.line is not None:
                try:
                    await check_line(connection, ref.tenant, ref.subscriber_ref, ref.order_id, opening.line)
                except (LineDiffersError, LineStateError):  # the order keeps no row, so `close_order` will not count it
                    ORDERS.labels(opening.operation, ref.tenant, Verdict.REFUSED).inc()
                    raise
            for take_over in _TAKE_OVER if found.superseded else ():
                await connection.execute(take_over, {"heir": ref.order_id, "lost": list(found.superseded)})
            group = None
            if found.result is None and not found.taken_over and opening.steps:
                group = await self._groups.run(connection, ref, opening.steps)
        return OpenedOrder(result=found.result, outdated=found.outdated, taken_over=found.taken_over, group=group)

    @activity.defn
    @failing_by_type
    async def run_steps(self, ref: StepContext, calls: list[StepCall]) -> GroupReport:
        """Run steps, or undos, in one transaction, until one of them fails or needs another system."""
        return await self._run(ref, calls)

    @activity.defn
    @failing_by_type
    async def begin_rollback(self, ref: StepContext, calls: list[StepCall]) -> BegunRollback:
        """Fence the order, and run the first undos: from here on none of its steps can act, not even a late attempt.

        Return the result of an order that is done after all. A second attempt runs no undo: they must not prevent the
        fence.
        """
        first = activity.info().attempt == 1
        try:
            group = await self._run(ref, calls if first else [])
            return BegunRollback(group=group if first else None)
        except OrderFencedError:
            async with self._database.tenant(ref.tenant) as connection:
                recorded = await orders.lock_order(connection, ref.order_id)
            if recorded.status not in SUCCESSES:
                raise
            return BegunRollback(ended=recorded.result)

    @activity.defn
    @failing_by_type
    async def close_order(self, ref: StepContext, closing: OrderClosing) -> dict[str, Any] | None:
        """Record how the order ended, and count it once, even if replies get lost.

        Return the recorded result where the order had ended before; None where `closing` is recorded, or a later order
        has taken over.
        """
        async with self._database.tenant(ref.tenant) as connection:
            closed = await _close(connection, ref, closing)
            if closed is None:
                return (await orders.lock_order(connection, ref.order_id)).result
        _count(ref, closing, closed)
        return None

    @activity.defn
    @failing_by_type
    async def finish_order(self, ref: StepContext, closing: OrderClosing, last: StepCall) -> OrderResult:
        """Run the order's last step and close the order, in one transaction. Return the order's result.

        `closing` has the result without the last step. An attempt after a lost reply returns what is recorded. Raises
        `OrderFencedError` where the order is not running, and in a revocable order `CANCEL_REQUESTED`.
        """
        wanted = not closing.revocable or await is_wanted()
        async with self._enter(ref) as connection:
            recorded = await orders.lock_order(connection, ref.order_id)
            if recorded.status in SUCCESSES:
                return OrderResult.model_validate(recorded.result)
            if recorded.status != orders.OrderStatus.RUNNING:
                raise OrderFencedError(f"Order {ref.order_id} is no longer running: this late attempt changed nothing.")
            if not wanted:
                raise ApplicationError(
                    "The order was cancelled, or its run was ended, before its last step.",
                    type=CANCEL_REQUESTED,
                    non_retryable=True,
                    category=ApplicationErrorCategory.BENIGN,
                )
            report = await self._groups.run_one(connection, ref, last)
            result = OrderResult.model_validate(closing.result).finished(
                StepResult(step=last.activity, attempts=report.attempt, **report.model_dump(include=_OF_A_STEP)),
                facts=report.facts,
                notes=report.notes,
                ended_at=datetime.now(UTC),
            )
            complete = OrderClosing(status=result.status, result=result.model_dump(mode="json"))
            closed = await _close(connection, ref, complete)
        if closed is not None:
            _count(ref, complete, closed)
        return result

    async def _run(self, ref: StepContext, calls: list[StepCall]) -> GroupReport:
        async with self._order(ref) as connection:
            return await self._groups.run(connection, ref, calls)


async def _close(connection: TenantConnection, ref: StepContext, closing: OrderClosing) -> orders.ClosedOrder | None:
    status = orders.OrderStatus(closing.status)
    closed = await orders.close_order(connection, ref.order_id, status, closing.result)
    if closed is not None and status in SUCCESSES and closed.effect is not LineEffect.CREATES:
        await previous_values.settle(
            connection, ref.subscriber_ref, ref.order_id, everything=closed.effect is LineEffect.ENDS
        )
    return closed


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
