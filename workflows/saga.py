"""The saga: run the steps of an order, undo them after a failure or a cancel, and only go forward after the pivot.

`workflows.step_runner` runs the steps: in groups, which are local activities, or alone.

The rules, and the failures that they prevent:
- The history holds the results of local activities only after their workflow task has ended. A worker that dies
  earlier leaves no trace of them, and they run again. Therefore a rollback undoes every step, reached or not. The
  beginning of a rollback, the pivot and the closing must not run twice unnoticed: they are regular activities.
- A run sees a cancel only between workflow tasks. Therefore the last step before the pivot is a regular activity: the
  run sees a cancel that came during the groups before it passes the pivot. The last step of all shares the transaction
  of the closing. Where it can still be undone, this activity asks Temporal whether a cancel has come.
- The saga shields groups, and the last step with the closing, from cancels. Otherwise it would not know what they have
  committed.
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

from activities.messages import (
    CANCEL_REQUESTED,
    BegunRollback,
    GroupReport,
    OpenedOrder,
    OrderClosing,
    OrderOpening,
    StepContext,
)
from lastmile.contract import Choice, Decision, Order, OrderResult, Progress, ResultStatus, RunStatus
from lastmile.contract.results import StepOutcome
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
        self._begun_rollback = BegunRollback()
        self._finished: OrderResult | None = None
        """The result, where the last step and the closing are done."""

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
        pivot = pivot_of(self._steps)
        before_pivot = self._steps[:pivot]
        opened = await shielded(self._open([] if cancel_requested() else before_pivot[:-1]))
        if opened.result is not None:
            before = OrderResult.model_validate(opened.result)
            return self._record.end(before.model_copy(update={"outdated": opened.outdated}))
        if opened.taken_over and pivot < len(self._steps):
            before_pivot = ()  # the lost run may have passed the pivot: only go forward
        ahead = self._steps[len(before_pivot) :]
        try:
            await self._run_before_pivot(before_pivot, opened.group, finish=not ahead)
        except (Exception, asyncio.CancelledError) as failure:
            result = await shielded(self._roll_back(failure))
        else:
            result = await shielded(self._go_forward(ahead))
        if cancel_requested() and result.status in SUCCEEDED and LATE_CANCEL not in result.notes:
            result = result.model_copy(update={"notes": [*result.notes, LATE_CANCEL]})
        self._record.end(result)
        if result.status in SUCCEEDED:
            return result
        raise _ending(self._failure, result) from None

    async def _open(self, first: Sequence[Step[OrderT]]) -> OpenedOrder:
        """Open the order in the database with its first steps, and return what the database knew of it."""
        order = self._order
        opening = OrderOpening(
            operation=order.operation,
            digest=order.digest,
            line=order.requested_line,
            steps=self._runner.calls(first),
            run_started_at=workflow.info().start_time,
        )
        ref = StepContext.of(order)
        try:
            try:
                opened: OpenedOrder = await self._caller.try_locally(
                    "open_order",
                    summary("open the order", first),
                    ref,
                    opening,
                    returns=OpenedOrder,
                    name=id_of("open_order", first),
                )
            except FailureError as failure:
                if not retryable(failure):
                    raise
                alone = opening.model_copy(update={"steps": []})
                # The first attempt may have done its steps: only the database knows, however long it is away.
                opened = await self._runner.call(
                    "open_order", "open the order", CallKind.DATABASE, alone, returns=OpenedOrder, endless=True
                )
        except FailureError as failure:
            # The order was refused before its first step: there is nothing to undo.
            raise ApplicationError(message_of(failure), type=type_of(failure), non_retryable=True) from None
        return opened

    async def _run_before_pivot(
        self, steps: Sequence[Step[OrderT]], begun: GroupReport | None, *, finish: bool
    ) -> None:
        """Run the steps that can be undone; `finish`: the order ends with them. Raise what it is rolled back for."""
        if not steps:
            return
        *most, last = steps
        await self._runner.run_in_groups(most, self._runner.attempt, begun=begun)
        self._runner.follow_cancel()
        if finish and _joins_closing(last):
            await self._finish(last)
        else:
            await self._runner.attempt(last)
            self._runner.follow_cancel()

    async def _go_forward(self, steps: Sequence[Step[OrderT]]) -> OrderResult:
        """Run the steps from the pivot on. Each one succeeds, or an operator decides about it."""
        self._caller.reversible = False

        async def insist(step: Step[OrderT], work: Callable[[Step[OrderT]], Any] = self._runner.attempt) -> None:
            await self._parking.insist(step.name, partial(work, step), final=partial(_refused_by, step))

        try:
            if steps:
                *most, last = steps
                await self._runner.run_in_groups(most, insist)
                await insist(last, self._finish if _joins_closing(last) else self._runner.attempt)
        except RunAbandonedError as decided:
            return await self._close(ResultStatus.ABANDONED, str(decided))
        except FailureError as refusal:
            return await self._roll_back(refusal)
        if self._finished is not None:
            return self._finished
        self._note_late_cancel()
        return await self._close(ResultStatus.DEGRADED if self._record.warnings else ResultStatus.COMPLETED)

    async def _finish(self, step: Step[OrderT]) -> None:
        """Run the last step and close the order, in one transaction."""
        record = self._record
        started = workflow.now()
        record.begin(step.name)
        if not self._caller.reversible:
            self._note_late_cancel()
        closing = OrderClosing(
            status=ResultStatus.COMPLETED,
            result=record.result_of(ResultStatus.COMPLETED).model_dump(mode="json"),
            revocable=self._caller.reversible,
        )
        (call,) = self._runner.calls([step])
        work = self._runner.call(
            "finish_order",
            summary("close the order", [step]),
            step.kind,
            closing,
            call,
            returns=OrderResult,
            name=id_of("finish_order", [step]),
        )
        try:
            finished: OrderResult = await shielded(work)
        except FailureError as failure:
            if type_of(failure) == CANCEL_REQUESTED:
                raise asyncio.CancelledError from None
            attempts = self._caller.attempts_failed(failure)
            record.record(step.name, StepOutcome.FAILED, message_of(failure), attempts, started)
            raise
        self._finished = finished

    def _note_late_cancel(self) -> None:
        if cancel_requested() and LATE_CANCEL not in self._record.notes:
            self._record.notes.append(LATE_CANCEL)

    async def _begin_rollback(self, undone: Sequence[Step[OrderT]]) -> None:
        """Fence the order: from here on none of its steps can act, not even a late attempt."""
        self._begun_rollback = await self._runner.call(
            "begin_rollback",
            summary("begin the rollback", undone, undo=True),
            CallKind.DATABASE,
            self._runner.calls(undone, undo=True),
            undo=True,
            returns=BegunRollback,
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
        record.facts = {step.name: record.facts[step.name] for step in undone if step.name in record.facts}
        status = ResultStatus.ROLLED_BACK

        async def insist(step: Step[OrderT]) -> None:
            nonlocal status
            skipped = await self._parking.insist(step.name, partial(self._runner.undo, step), undo=True)
            if skipped is not None:
                status = ResultStatus.PARTLY_ROLLED_BACK
                reasons.append(skipped.text)

        try:
            await self._parking.insist("begin_rollback", partial(self._begin_rollback, undone))
            if (ended := self._begun_rollback.ended) is not None:
                return OrderResult.model_validate(ended)
            await self._runner.run_in_groups(undone, insist, undo=True, begun=self._begun_rollback.group)
        except RunAbandonedError as decided:
            status = ResultStatus.ABANDONED
            reasons.append(str(decided))
        return await self._close(status, "; ".join(reasons), cancelled=cancelled, failure=type_of(failure))

    async def _close(
        self, status: ResultStatus, reason: str = "", *, cancelled: bool = False, failure: str = ""
    ) -> OrderResult:
        """Record how the order ended, and return its result."""
        record = self._record
        result = record.result_of(status, reason)
        closing = OrderClosing(
            status=status, result=result.model_dump(mode="json"), cancelled=cancelled, failure=failure
        )
        recorded: dict[str, Any] | None = None

        async def close() -> None:
            nonlocal recorded
            recorded = await self._runner.call(
                "close_order", "record the outcome", CallKind.DATABASE, closing, returns=dict[str, Any] | None
            )

        with suppress(RunAbandonedError):  # the order's row stays open, and the audit reports it
            await self._parking.insist("close_order", close)
        if recorded is not None:
            return OrderResult.model_validate(recorded)
        decided = {
            "warnings": list(record.warnings),
            "decisions": list(record.decisions),
        }  # with the closing
        return result.model_copy(update=decided)

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


def _joins_closing(step: Step[Any]) -> bool:
    """Return whether the step, as the last one, can share the transaction of the closing."""
    return step.kind is CallKind.DATABASE and not step.best_effort and not step.pivot


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
