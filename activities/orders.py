"""The activities on an order's own row: open it, run groups of its steps, begin its rollback, close it.

The order's first steps share the transaction of the opening, the first undos that of the rollback's beginning, and the
last group that of the closing.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import structlog
from sqlalchemy import text
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.base import Activities, failing_by_type
from activities.group_messages import GroupReport, OpenedOrder, OrderOpening, StepGroup
from activities.messages import StepContext
from activities.order_record import OrderClosing
from activities.refusals import Verdict, verdict_on
from activities.run_status import is_wanted
from activities.step_groups import StepGroups
from lastmile.contract import Operation
from lastmile.contract.operations import OPERATIONS, LineEffect
from lastmile.contract.results import OrderResult, ResultStatus
from lastmile.db import Database, TenantConnection
from lastmile.errors import NonRetryableError, OrderFencedError, OutageError
from lastmile.radius import given_passwords
from lastmile.services.line_matching import check_line
from lastmile.subscribers import orders, previous_values, records
from lastmile.subscribers.accepted_orders import refuse_accepted_order
from lastmile.subscribers.errors import LineDiffersError, LineStateError
from lastmile.subscribers.order_records import ORDER_RECORDS
from lastmile.telemetry.metrics import ORDER_SECONDS_TAKEN, ORDERS, STEPS

__all__ = ["OrderActivities"]

log = structlog.get_logger("lastmile.orders")

SUCCESSES = {orders.OrderStatus.COMPLETED, orders.OrderStatus.DEGRADED}

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
        An order that was accepted is then recorded as refused.
        """
        try:
            found, group, count = await self._open(ref, opening)
        except OrderFencedError:
            raise
        except NonRetryableError as refusal:
            # The order keeps no row: no closing will count it, or forget its password.
            differs = isinstance(refusal, LineDiffersError | LineStateError)
            async with self._database.tenant(ref.tenant, actor=ref.requested_by) as connection:
                await refuse_accepted_order(connection, ref.order_id, opening.digest, str(refusal))
                if differs:
                    await given_passwords.forget(connection, ref.order_id)
            if differs:
                ORDERS.labels(opening.operation, ref.tenant, Verdict.REFUSED).inc()
            raise
        if group is not None:
            group = await _after_commit(opening.group, group, count)
        return OpenedOrder(result=found.result, outdated=found.outdated, taken_over=found.taken_over, group=group)

    @activity.defn
    @failing_by_type
    async def run_steps(self, ref: StepContext, group: StepGroup) -> GroupReport:
        """Run steps, or undos, in one transaction, until one of them fails or needs another system.

        Where the group also closes the order, an attempt after a lost reply returns the recorded result.
        """
        fence = orders.COMPENSATION_FENCE if ref.undo else orders.CLOSING_FENCE if group.closing else orders.STEP_FENCE
        try:
            async with self._enter(ref, fence) as connection:
                report, count = await self._run(connection, ref, group)
        except OrderFencedError:
            if group.closing is None or (recorded := await self._recorded(ref)) is None:
                raise
            return GroupReport(result=recorded)
        return await _after_commit(group, report, count)

    @activity.defn
    @failing_by_type
    async def begin_rollback(self, ref: StepContext, group: StepGroup) -> GroupReport:
        """Fence the order, and run the first undos: from here on none of its steps can act, not even a late attempt.

        Return the result of an order that has ended after all. A second attempt runs no undo: they must not prevent the
        fence.
        """
        try:
            async with self._enter(ref, orders.COMPENSATION_FENCE) as connection:
                if activity.info().attempt > 1:
                    return GroupReport()
                report, count = await self._run(connection, ref, group)
        except OrderFencedError:
            if (recorded := await self._recorded(ref)) is None:
                raise
            return GroupReport(result=recorded)
        return await _after_commit(group, report, count)

    @activity.defn
    @failing_by_type
    async def close_order(self, ref: StepContext, closing: OrderClosing) -> OrderResult:
        """Record how the order ended, and count it once, even if replies get lost. Return the order's result.

        The first recorded result stays. Where a later order has taken over, nothing is recorded.
        """
        async with self._enter(ref) as connection:
            result, count = await _close(connection, ref, closing)
            if count is None:
                recorded = (await orders.lock_order(connection, ref.order_id)).result
                return result if recorded is None else OrderResult.model_validate(recorded)
        count()
        return result

    async def _open(
        self, ref: StepContext, opening: OrderOpening
    ) -> tuple[orders.Opening, GroupReport | None, Callable[[], None] | None]:
        """Open the order and run its first steps, in one transaction. Return also what counts a closed order."""
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
                urgency=opening.urgency,
                customer_ref=opening.customer_ref,
            )
            line = opening.line
            if found.new and line is not None:
                await check_line(connection, ref.tenant, ref.subscriber_ref, ref.order_id, line)
            if found.superseded:
                for take_over in _TAKE_OVER:
                    await connection.execute(take_over, {"heir": ref.order_id, "lost": list(found.superseded)})
                if line is not None:  # the lost order may have created another customer, and no line of it
                    await records.delete_customer(connection, ref.order_id, stays=line.customer.ref)
            if found.result is None and not found.taken_over and opening.group.calls:
                return found, *await self._run(connection, ref, opening.group)
        return found, None, None

    async def _run(
        self, connection: TenantConnection, ref: StepContext, group: StepGroup
    ) -> tuple[GroupReport, Callable[[], None] | None]:
        """Run the group in the transaction, and close the order with it where the group says so.

        Return also what counts the closed order, to be called after the commit.
        """
        report = await self._groups.run(connection, ref, group.calls)
        if report.failure is not None or group.closing is None:
            return report, None
        record = group.closing.record.model_copy(deep=True)
        for call, done in zip(group.calls, report.steps, strict=True):
            (record.add_undo if ref.undo else record.add_step)(call.step, done)
        closing = group.closing.model_copy(update={"record": record})
        count: Callable[[], None] | None = None

        async def close(_: StepContext) -> GroupReport:
            nonlocal count
            if group.asks and not (wanted := await _is_wanted()):
                return report.model_copy(update={"wanted": wanted})
            result, count = await _close(connection, ref, closing)
            return report.model_copy(update={"result": result})

        with suppress(ApplicationError):  # the steps stay, and an activity of its own closes the order
            report = await self._groups.run_within(connection, ref, "close_order", close)
        return report, count

    async def _recorded(self, ref: StepContext) -> OrderResult | None:
        """Return the result of the order; None where it has not ended."""
        async with self._database.tenant(ref.tenant) as connection:
            recorded = await orders.lock_order(connection, ref.order_id)
        return None if recorded.result is None else OrderResult.model_validate(recorded.result)


async def _after_commit(group: StepGroup, report: GroupReport, count: Callable[[], None] | None) -> GroupReport:
    """Count an order that the group has closed, and ask for a cancel where the group asks and closes nothing."""
    if count is not None:
        count()
    if group.asks and group.closing is None and report.failure is None:
        return report.model_copy(update={"wanted": await _is_wanted()})
    return report


async def _is_wanted() -> bool | None:
    """Return whether the run goes on without a cancel; None: Temporal does not answer."""
    try:
        return await is_wanted()
    except OutageError:
        return None


async def _close(
    connection: TenantConnection, ref: StepContext, closing: OrderClosing
) -> tuple[OrderResult, Callable[[], None] | None]:
    """Record how the order ended. Return its result, and what counts it; None where the order had ended before."""
    result = closing.result(datetime.now(UTC))
    status = orders.OrderStatus(result.status)
    closed = await orders.close_order(connection, ref.order_id, status, result.model_dump(mode="json"))
    if closed is None:
        return result, None
    if status in SUCCESSES and closed.effect is not LineEffect.CREATES:
        steps = [step.name for step in OPERATIONS[Operation(closed.operation)].steps]
        ends = closed.effect is LineEffect.ENDS
        await previous_values.settle(connection, ref.subscriber_ref, ref.order_id, steps, everything=ends)
    return result, partial(_count, ref, result, _outcome(closing, result), closed.seconds)


def _count(ref: StepContext, result: OrderResult, outcome: str, seconds: float) -> None:
    ORDERS.labels(result.operation, ref.tenant, outcome).inc()
    ORDER_SECONDS_TAKEN.labels(result.operation, ref.tenant).observe(seconds)
    for step in result.steps:
        if step.outcome is not None:
            STEPS.labels(step.step, ref.tenant, step.outcome).inc()
    log.info(
        "order.ended",
        operation=result.operation,
        status=result.status,
        outcome=outcome,
        seconds=round(seconds, 3),
    )


def _outcome(closing: OrderClosing, result: OrderResult) -> str:
    """Return the label of the metric: the status, or why an order was rolled back without a failure."""
    if closing.cancelled:
        return "cancelled"
    if result.status is ResultStatus.ROLLED_BACK and verdict_on(closing.failure) is Verdict.REFUSED:
        return Verdict.REFUSED
    return result.status
