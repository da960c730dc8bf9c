"""The saga: run the steps of an order, undo them after a failure or a cancel, and only go forward after the pivot.

The rules, and the failures that they prevent:
- The history holds the results of local activities only after their workflow task has ended. A worker that dies
  earlier leaves no trace of them, and they run again. Therefore a rollback undoes every step, reached or not. The
  beginning of a rollback, the pivot and the closing must not run twice unnoticed: they are regular activities.
- A run sees a cancel only between workflow tasks. Therefore the last step before the pivot, and the last step of all,
  are regular activities: the run sees a cancel that came during the local ones before it passes the pivot or ends.
- An undo, and everything from the pivot on, runs in a task of its own that no cancel reaches. The run waits for this
  task and ignores cancels meanwhile. A task that the run does not wait for would be lost.
- An activity that completes in spite of a cancel hides the cancel. Therefore the saga checks `cancellation_reason()`
  before and after each step.
- A failure after the pivot, or of an undo, parks the run for an operator (`workflows.parking`).
- The saga catches `Exception` and `CancelledError`, not `BaseException`: the SDK evicts a run from its cache that way.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from activities.messages import OpenedOrder, OrderClosing, OrderOpening, StepContext, StepReport
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

__all__ = ["Saga"]

OrderT = TypeVar("OrderT", bound=Order)

SUCCEEDED = {ResultStatus.COMPLETED, ResultStatus.DEGRADED}


class Saga(Generic[OrderT]):
    """The run of one order through its steps."""

    def __init__(self, order: OrderT | None, steps: Sequence[Step[OrderT]]) -> None:
        self._order: OrderT = order  # type: ignore[assignment]  # without one, `run` ends at once
        self._steps = steps
        self._record = RunRecord(self._order, [step.name for step in steps])
        self._caller = Caller()
        self._parking = Parking(self._record, self._caller.attempts_failed, self._log)
        self._failure: BaseException | None = None
        """Why the order is rolled back."""

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
        opened = await shielded(self._open())
        if opened.result is not None:
            result = OrderResult.model_validate(opened.result)
            return self._record.end(result.model_copy(update={"outdated": opened.outdated}))
        pivot = pivot_of(self._steps)
        if opened.taken_over and pivot < len(self._steps):
            pivot = 0  # the lost run may have passed the pivot: only go forward
        revocable = self._steps[:pivot]
        try:
            for step in revocable:
                self._raise_if_cancelled()
                await self._attempt(step, local=step is not revocable[-1])
            if revocable:  # otherwise every cancel comes too late
                self._raise_if_cancelled()
        except (Exception, asyncio.CancelledError) as failure:
            result = await shielded(self._roll_back(failure))
        else:
            result = await shielded(self._go_forward(self._steps[pivot:]))
        if result.status in SUCCEEDED:
            return result
        raise _ending(self._failure, result) from None

    async def _open(self) -> OpenedOrder:
        """Open the order in the database, and return what the database knew of it."""
        order = self._order
        opening = OrderOpening(operation=order.operation, digest=order.digest, line=order.requested_line)
        try:
            opened: OpenedOrder = await self._call(
                "open_order", "open the order", CallKind.DATABASE, opening, returns=OpenedOrder
            )
            return opened
        except FailureError as failure:
            # No step has run: there is nothing to undo.
            raise ApplicationError(message_of(failure), type=type_of(failure), non_retryable=True) from None

    async def _go_forward(self, steps: Sequence[Step[OrderT]]) -> OrderResult:
        """Run the steps from the pivot on. Each one succeeds, or an operator decides about it."""
        self._caller.reversible = False
        try:
            for step in steps:
                work = partial(self._attempt, step, local=not step.pivot and step is not steps[-1])
                await self._parking.insist(step.name, work, final=partial(_refused_by, step))
        except RunAbandonedError as decided:
            return await self._close(ResultStatus.ABANDONED, str(decided))
        except FailureError as refusal:
            return await self._roll_back(refusal)
        record = self._record
        if steps and workflow.cancellation_reason() is not None:
            record.warnings.append("A cancel came after the point of no return and had no effect.")
        return await self._close(ResultStatus.DEGRADED if record.warnings else ResultStatus.COMPLETED)

    async def _begin_rollback(self) -> None:
        """Fence the order: from here on none of its steps can act, not even a late attempt."""
        await self._call("begin_rollback", "begin the rollback", CallKind.DATABASE, undo=True, local=False)

    async def _roll_back(self, failure: BaseException) -> OrderResult:
        """Undo every step, the last one first. A failed undo parks and does not end the rollback."""
        self._caller.reversible = False
        record = self._record
        record.status = RunStatus.ROLLING_BACK
        self._failure = failure
        cancelled = is_cancelled_exception(failure)
        reasons = ["cancelled" if cancelled else f"{record.step}: {message_of(failure)}"]
        workflow.upsert_search_attributes([STEP.value_set(record.step or "")])
        self._log("order.rolling_back", record.step, type_of(failure))
        undone = [step for step in self._steps if step.undo is not None]
        record.facts = {step.name: record.facts[step.name] for step in undone if step.name in record.facts}
        status = ResultStatus.ROLLED_BACK
        try:
            await self._parking.insist("begin_rollback", self._begin_rollback)
            for step in reversed(undone):
                skipped = await self._parking.insist(step.name, partial(self._undo, step), undo=True)
                if skipped is not None:
                    status = ResultStatus.PARTLY_ROLLED_BACK
                    reasons.append(skipped.text)
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
        with suppress(RunAbandonedError):  # the order's row stays open, and the audit reports it
            await self._parking.insist(
                "close_order",
                lambda: self._call("close_order", "record the outcome", CallKind.DATABASE, closing, local=False),
            )
        decided = {
            "warnings": list(record.warnings),
            "decisions": list(record.decisions),
        }  # with the closing
        return record.end(result.model_copy(update=decided))

    # One step

    async def _attempt(self, step: Step[OrderT], *, local: bool) -> None:
        """Run a step and record its outcome. Raise its failure, unless the step is best-effort."""
        record = self._record
        started = workflow.now()
        record.begin(step.name)
        try:
            report = await self._call(
                step.name, step.title, step.kind, *step.content(self._order), returns=StepReport, local=local
            )
        except (Exception, asyncio.CancelledError) as failure:
            cancelled = is_cancelled_exception(failure)
            lenient = step.best_effort and not cancelled
            outcome = StepOutcome.WARNED if lenient else StepOutcome.FAILED
            message = "cancelled" if cancelled else message_of(failure)
            record.record(step.name, outcome, message, self._caller.attempts_failed(failure), started)
            if not lenient:
                raise
            return
        record.facts[step.name] = report.facts
        record.notes += report.notes
        attempts = self._caller.attempts(report.attempt)
        record.record(step.name, report.outcome, report.reason, attempts, started)

    async def _undo(self, step: Step[OrderT]) -> None:
        """Undo a step and record the outcome."""
        assert step.undo is not None
        record = self._record
        started = workflow.now()
        record.begin(step.name)
        report = await self._call(
            step.undo, f"undo: {step.title}", step.kind, returns=StepReport, undo=True, name=f"undo_{step.name}"
        )
        record.facts.pop(step.name, None)
        if report.outcome is StepOutcome.WARNED:
            record.warnings.append(f"undo of {step.name}: {report.reason}")
        # A failed step keeps its outcome and reason. A step that the order did not reach was not undone.
        reached = record.outcomes[step.name].outcome
        if reached is not StepOutcome.FAILED and (reached is not None or report.outcome is not StepOutcome.SKIPPED):
            attempts = self._caller.attempts(report.attempt)
            record.record(step.name, StepOutcome.UNDONE, report.reason, attempts, started)

    async def _call(
        self, activity: str, summary: str, kind: CallKind, *content: Any, undo: bool = False, **how: Any
    ) -> Any:
        return await self._caller.call(activity, summary, kind, StepContext.of(self._order, undo=undo), *content, **how)

    def _raise_if_cancelled(self) -> None:
        """Raise `CancelledError` where a cancel was requested, even if a completed activity has hidden it."""
        if workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError

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
