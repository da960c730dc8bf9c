"""The saga: run the steps of an order, undo them after a failure or a cancel, and only go forward after the pivot.

`workflows.step_runner` runs the steps: in groups, which are local activities, or alone.

The rules, and the failures that they prevent:
- The history holds the results of local activities only after their workflow task has ended. A worker that dies
  earlier leaves no trace of them, and they run again. Therefore a rollback undoes every step, reached or not. The
  beginning of a rollback and the pivot must not run twice unnoticed: they are regular activities. A group that has
  closed the order finds the recorded result when it runs again.
- A run sees a cancel only between workflow tasks. Therefore the last group before the pivot, or before the closing,
  asks Temporal whether a cancel has come.
- The saga shields groups from cancels. Otherwise it would not know what they have committed.
- An undo, and everything from the pivot on, runs in a task of its own that no cancel reaches. The run waits for this
  task and ignores cancels meanwhile. A task that the run does not wait for would be lost.
- An activity that completes in spite of a cancel hides the cancel. Therefore the saga checks `cancellation_reason()`
  before and after each step.
- A failure after the pivot, or of an undo, parks the run for an operator (`workflows.parking`).
- The saga catches `Exception` and `CancelledError`, not `BaseException`: the SDK evicts a run from its cache that way.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from activities.group_messages import GroupReport, OpenedOrder, OrderOpening, StepGroup
from activities.messages import StepContext
from activities.order_record import OrderClosing
from lastmile.contract import Choice, Decision, Order, OrderResult, Progress, ResultStatus, RunStatus
from lastmile.contract.steps import CallKind, Step, pivot_of
from workflows.failure_details import message_of, retryable, type_of
from workflows.identity import check_workflow_id
from workflows.parking import Parking, RunAbandonedError
from workflows.run_record import RunRecord
from workflows.search_attributes import OPERATION, STEP, TENANT
from workflows.shielding import shielded
from workflows.step_activity import Caller
from workflows.step_runner import StepRunner, cancel_requested, id_of, summary

__all__ = ["LATE_CANCEL", "Saga"]

OrderT = TypeVar("OrderT", bound=Order)

SUCCEEDED = {ResultStatus.COMPLETED, ResultStatus.DEGRADED}
LATE_CANCEL = "A cancel came after the point of no return and had no effect."


class Saga(Generic[OrderT]):
    """The run of one order through its steps."""

    def __init__(self, order: OrderT | None, steps: Sequence[Step[OrderT]]) -> None:
        self._order: OrderT = order  # type: ignore[assignment]  # without one, `run` ends at once
        self._steps = steps
        self._record = RunRecord(self._order, [step.name for step in steps])
        self._caller = Caller()
        self._runner = StepRunner(self._order, self._record, self._caller)
        self._parking = Parking(self._record, self._caller.attempts_failed, self._log)
        self._failure: BaseException | None = None
        """Why the order is rolled back."""
        self._begun_rollback = GroupReport()

    # What operators see and decide

    def progress(self) -> Progress:
        """Return the state of the run."""
        return self._record.progress()

    def check(self, decision: Decision) -> None:
        """Raise `ApplicationError` unless the run is parked at the step of the decision."""
        self._parking.check(decision)

    def decide(self, choice: Choice, decision: Decision) -> None:
        """Continue the parked run as the operator decided."""
        self._parking.decide(choice, decision)

    # The order, from beginning to end

    async def run(self) -> OrderResult:
        """Run the order to its end. Return its result, or raise the error that the run ends with."""
        if self._order is None:  # started in the Temporal UI without an input, which no model refuses
            raise ApplicationError(
                "The run was started without an order. Start it with the order as its input.",
                type="NoOrder",
                non_retryable=True,
            )
        check_workflow_id(self._order.workflow_id, f"order {self._order.order_id}")
        self._set_search_attributes()
        before_pivot = self._steps[: pivot_of(self._steps)]
        closing = self._completion if len(before_pivot) == len(self._steps) else None
        opened = await shielded(self._open([] if cancel_requested() else before_pivot, closing))
        if opened.result is not None:
            before = OrderResult.model_validate(opened.result)
            return self._record.end(self._with_late_cancel(before.model_copy(update={"outdated": opened.outdated})))
        if opened.taken_over and closing is None:
            before_pivot = ()  # the lost run may have passed the pivot: only go forward
        try:
            result = await self._runner.run_in_groups(
                before_pivot, self._runner.attempt, closing=closing, begun=opened.group
            )
            if before_pivot and result is None:
                self._runner.follow_cancel()
        except (Exception, asyncio.CancelledError) as failure:
            result = await shielded(self._roll_back(failure))
        if result is None:
            result = await shielded(self._go_forward(self._steps[len(before_pivot) :]))
        result = self._with_late_cancel(result)
        self._record.end(result)
        if result.status in SUCCEEDED:
            return result
        raise _ending(self._failure, result) from None

    async def _open(self, first: Sequence[Step[OrderT]], closing: Callable[[], OrderClosing] | None) -> OpenedOrder:
        """Open the order in the database with its first steps, and return what the database knew of it."""
        order = self._order
        opening = OrderOpening(
            operation=order.operation,
            digest=order.digest,
            line=order.requested_line,
            urgency=order.urgency,
            customer_ref=order.customer_ref,
            group=self._runner.group(first, last=bool(first), closing=closing),
            run_started_at=workflow.info().start_time,
        )
        ref = StepContext.of(order)
        try:
            try:
                opened: OpenedOrder = await self._caller.try_locally(
                    "open_order",
                    summary("open the order", first, closing=opening.group.closing is not None),
                    ref,
                    opening,
                    returns=OpenedOrder,
                    name=id_of("open_order", first),
                )
            except FailureError as failure:
                if not retryable(failure):
                    raise
                alone = opening.model_copy(update={"group": StepGroup()})
                # The first attempt may have done its steps: only the database knows, however long it is away.
                opened = await self._runner.call(
                    "open_order", "open the order", CallKind.DATABASE, alone, returns=OpenedOrder, endless=True
                )
        except FailureError as failure:
            # The order was refused before its first step: there is nothing to undo.
            raise ApplicationError(message_of(failure), type=type_of(failure), non_retryable=True) from None
        return opened

    async def _go_forward(self, steps: Sequence[Step[OrderT]]) -> OrderResult:
        """Run the steps from the pivot on. Each one succeeds, or an operator decides about it."""
        self._caller.reversible = False

        async def insist(step: Step[OrderT]) -> None:
            attempt = partial(self._runner.attempt, step)
            await self._parking.insist(step.name, attempt, final=partial(_refused_by, step))

        try:
            result = await self._runner.run_in_groups(steps, insist, closing=self._completion)
        except RunAbandonedError as decided:
            reason = str(decided)
            return await self._close(
                lambda: OrderClosing(record=self._record.so_far, status=ResultStatus.ABANDONED, reason=reason)
            )
        except FailureError as refusal:
            return await self._roll_back(refusal)
        return result or await self._close(self._completion)

    def _completion(self) -> OrderClosing:
        """Return the closing of an order that is done."""
        notes = self._record.so_far.notes
        if cancel_requested() and LATE_CANCEL not in notes:
            notes.append(LATE_CANCEL)
        return OrderClosing(record=self._record.so_far, status=ResultStatus.COMPLETED)

    async def _begin_rollback(self, undone: Sequence[Step[OrderT]], closing: Callable[[], OrderClosing]) -> None:
        """Fence the order: from here on none of its steps can act, not even a late attempt."""
        self._begun_rollback = await self._runner.call(
            "begin_rollback",
            summary("begin the rollback", undone, undo=True, closing=True),
            CallKind.DATABASE,
            self._runner.group(undone, undo=True, last=True, closing=closing),
            undo=True,
            returns=GroupReport,
            name=id_of("begin_rollback", undone),
        )

    async def _roll_back(self, failure: BaseException) -> OrderResult:
        """Undo every step, the last one first. A failed undo parks and does not end the rollback."""
        self._caller.reversible = False
        self._runner.begin_rollback()
        record = self._record
        record.status = RunStatus.ROLLING_BACK
        self._failure = failure
        cancelled = is_cancelled_exception(failure)
        reasons = ["cancelled" if cancelled else f"{record.step}: {message_of(failure)}"]
        workflow.upsert_search_attributes([STEP.value_set(record.step or "")])
        self._log("order.rolling_back", record.step, type_of(failure))
        undone = [step for step in reversed(self._steps) if step.undo is not None]
        facts = record.so_far.facts
        record.so_far.facts = {step.name: facts[step.name] for step in undone if step.name in facts}
        status = ResultStatus.ROLLED_BACK

        async def insist(step: Step[OrderT]) -> None:
            nonlocal status
            skipped = await self._parking.insist(step.name, partial(self._runner.undo, step), undo=True)
            if skipped is not None:
                status = ResultStatus.PARTLY_ROLLED_BACK
                reasons.append(skipped.text)

        def closing() -> OrderClosing:
            return OrderClosing(
                record=record.so_far,
                status=status,
                reason="; ".join(reasons),
                cancelled=cancelled,
                failure=type_of(failure),
            )

        try:
            await self._parking.insist("begin_rollback", partial(self._begin_rollback, undone, closing))
            begun = self._begun_rollback
            if begun.result is not None:
                return begun.result
            result = await self._runner.run_in_groups(undone, insist, undo=True, closing=closing, begun=begun)
        except RunAbandonedError as decided:
            status, result = ResultStatus.ABANDONED, None
            reasons.append(str(decided))
        return result or await self._close(closing)

    async def _close(self, closing: Callable[[], OrderClosing]) -> OrderResult:
        """Record how the order ended, and return its result."""
        recorded: OrderResult | None = None

        async def close() -> None:
            nonlocal recorded
            recorded = await self._runner.call(
                "close_order", "record the outcome", CallKind.DATABASE, closing(), returns=OrderResult
            )

        with suppress(RunAbandonedError):  # the order's row stays open, and the audit reports it
            await self._parking.insist("close_order", close)
        return recorded or closing().result(workflow.now())

    def _with_late_cancel(self, result: OrderResult) -> OrderResult:
        """Return the result with a note about a cancel that came too late."""
        if not cancel_requested() or result.status not in SUCCEEDED or LATE_CANCEL in result.notes:
            return result
        return result.model_copy(update={"notes": [*result.notes, LATE_CANCEL]})

    def _set_search_attributes(self) -> None:
        """Set the search attributes of a run that was started without the client's."""
        if workflow.info().typed_search_attributes.get(TENANT) is None:
            workflow.upsert_search_attributes(
                [TENANT.value_set(self._order.tenant), OPERATION.value_set(self._order.operation)]
            )

    def _log(self, event: str, step: str | None, kind: str) -> None:
        """Log an event, without the failure's message: messages hold personal data. A replay logs nothing."""
        about = {"tenant": self._order.tenant, "order_id": self._order.order_id, "step": step, "kind": kind}
        workflow.logger.warning(event, extra=about)


def _refused_by(step: Step[Any], failure: Exception) -> bool:
    """Return whether the failure of a gate says that the order has nothing to work on."""
    return step.gate and isinstance(failure, FailureError) and not retryable(failure)


def _ending(failure: BaseException | None, result: OrderResult) -> BaseException:
    """Return the error that ends the run: Canceled, or Failed with the whole result for the caller."""
    message = f"{result.status.replace('_', ' ')}: {result.reason}"
    if failure is None or result.status is ResultStatus.ABANDONED:
        return ApplicationError(message, result, type="RunAbandonedError", non_retryable=True)
    if is_cancelled_exception(failure):
        return asyncio.CancelledError()
    return ApplicationError(message, result, type=type_of(failure), non_retryable=True)
