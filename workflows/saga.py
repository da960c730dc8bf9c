"""Steps, undo and the point of no return: an order from its beginning to its end.

The rules (DESIGN sections 2 and 6):
- What local activities did is in the history only once their workflow task has ended. A worker that dies before
  leaves no trace of them, and they run again. So a rollback takes back every step, reached or not, and what must
  not run again unknown to the history is an activity proper: a rollback's beginning, the pivot, the closing.
- A cancel is heard only between workflow tasks. So the last step before the pivot, and the last of all, are activities
  proper: the cancel that came during the local ones is known before there is no more way back, or no more result.
- Undo, and everything from the pivot on, runs in a task of its own that no cancel reaches. The run waits for
  it and swallows the cancels that come meanwhile: a task that nobody waits for would be lost.
- A cancel can be hidden by an activity that completes all the same, so there is a look at
  `cancellation_reason()` before and after each step.
- What keeps failing where there is no way back parks (`workflows.parking`).
- `CancelledError` is caught beside `Exception`, `BaseException` is not: that is also how the SDK evicts a run.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from activities.messages import OpenedOrder, OrderClosing, OrderOpening, StepContext, StepReport
from lastmile.contract import Choice, Decision, Order, OrderResult, Progress, ResultStatus, RunStatus
from lastmile.contract.results import StepOutcome
from lastmile.contract.steps import CallKind, Step, pivot_of
from workflows.failure_details import kind_of, mendable, words_of
from workflows.identity import check_workflow_id
from workflows.parking import Parking, RunAbandonedError
from workflows.run_record import RunRecord
from workflows.search_attributes import OPERATION, STEP, TENANT
from workflows.step_activity import Caller

__all__ = ["Saga"]

OrderT = TypeVar("OrderT", bound=Order)
T = TypeVar("T")

SUCCEEDED = {ResultStatus.COMPLETED, ResultStatus.DEGRADED}


class Saga(Generic[OrderT]):
    """One order on its way through its steps."""

    def __init__(self, order: OrderT | None, steps: Sequence[Step[OrderT]]) -> None:
        self._order: OrderT = order  # type: ignore[assignment]  # without one, `run` ends at once
        self._steps = steps
        self._record = RunRecord(self._order, [step.name for step in steps])
        self._caller = Caller()
        self._parking = Parking(self._record, self._caller.attempts_failed, self._log)
        self._failure: BaseException | None = None
        """Why the order is rolled back."""

    # What operators see, and decide

    def progress(self) -> Progress:
        return self._record.progress()

    def check(self, decision: Decision) -> None:
        """Raise unless there is a parked step that this decision can be about."""
        self._parking.check(decision)

    def decide(self, choice: Choice, decision: Decision) -> None:
        self._parking.decide(choice, decision)

    # The order, from beginning to end

    async def run(self) -> OrderResult:
        """Run the order to its end, whatever happens; returns its result, or raises what the run ends with."""
        if self._order is None:  # from the Temporal UI with its input left empty; no model objects to that
            raise ApplicationError("the run was started without an order", type="NoOrder", non_retryable=True)
        check_workflow_id(self._order.workflow_id, f"order {self._order.order_id}")
        self._tag()
        opened = await _shielded(self._open())
        if opened.result is not None:
            result = OrderResult.model_validate(opened.result)
            return self._record.end(result.model_copy(update={"outdated": opened.outdated}))
        pivot = pivot_of(self._steps)
        if opened.taken_over and pivot < len(self._steps):
            pivot = 0  # the lost run may have passed it: there is no way back
        revocable = self._steps[:pivot]
        try:
            for step in revocable:
                self._look()
                await self._attempt(step, local=step is not revocable[-1])
            if revocable:  # otherwise a cancel comes too late, however early it came
                self._look()
        except (Exception, asyncio.CancelledError) as failure:
            result = await _shielded(self._roll_back(failure))
        else:
            result = await _shielded(self._go_forward(self._steps[pivot:]))
        if result.status in SUCCEEDED:
            return result
        raise _ending(self._failure, result) from None

    async def _open(self) -> OpenedOrder:
        """Begin; what was there of the order before."""
        order = self._order
        opening = OrderOpening(operation=order.operation, digest=order.digest, line=order.requested_line)
        try:
            opened: OpenedOrder = await self._call(
                "open_order", "open the order", CallKind.DATABASE, opening, returns=OpenedOrder
            )
            return opened
        except FailureError as failure:
            # Nothing was done yet, so there is nothing to undo.
            raise ApplicationError(words_of(failure), type=kind_of(failure), non_retryable=True) from None

    async def _go_forward(self, steps: Sequence[Step[OrderT]]) -> OrderResult:
        """The steps from the pivot on: each happens, or an operator answers for it."""
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
            record.warnings.append("a cancel was asked for after the point of no return, and was not followed")
        return await self._close(ResultStatus.DEGRADED if record.warnings else ResultStatus.COMPLETED)

    async def _begin_rollback(self) -> None:
        """From here on no step of the order can act any more, and the history knows why."""
        await self._call("begin_rollback", "begin the rollback", CallKind.DATABASE, undo=True, local=False)

    async def _roll_back(self, failure: BaseException) -> OrderResult:
        """Undo every step, last first; a failure is no reason to stop."""
        self._caller.reversible = False
        record = self._record
        record.status = RunStatus.ROLLING_BACK
        self._failure = failure
        cancelled = is_cancelled_exception(failure)
        reasons = ["cancelled" if cancelled else f"{record.step}: {words_of(failure)}"]
        workflow.upsert_search_attributes([STEP.value_set(record.step or "")])
        self._log("order.rolling_back", record.step, kind_of(failure))
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
        return await self._close(status, "; ".join(reasons), cancelled=cancelled, failure=kind_of(failure))

    async def _close(
        self, status: ResultStatus, reason: str = "", *, cancelled: bool = False, failure: str = ""
    ) -> OrderResult:
        """Record how the order ended, before anybody is told."""
        record = self._record
        result = record.result_of(status, reason)
        closing = OrderClosing(
            status=status, result=result.model_dump(mode="json"), cancelled=cancelled, failure=failure
        )
        with suppress(RunAbandonedError):  # the order's row stays unfinished then, which the audit reports
            await self._parking.insist(
                "close_order",
                lambda: self._call("close_order", "record the outcome", CallKind.DATABASE, closing, local=False),
            )
        decided = {"warnings": list(record.warnings), "decisions": list(record.decisions)}  # about the closing itself
        return record.end(result.model_copy(update=decided))

    # One step

    async def _attempt(self, step: Step[OrderT], *, local: bool) -> None:
        """Run a step and record what it says; raises what it fails with, unless it is best-effort."""
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
            words = "cancelled" if cancelled else words_of(failure)
            record.record(step.name, outcome, words, self._caller.attempts_failed(failure), started)
            if not lenient:
                raise
            return
        record.facts[step.name] = report.facts
        record.notes += report.notes
        attempts = self._caller.attempts(report.attempt)
        record.record(step.name, report.outcome, report.reason, attempts, started)

    async def _undo(self, step: Step[OrderT]) -> None:
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
        # What failed stays to be seen, with its words; and what was never reached was not undone either.
        reached = record.outcomes[step.name].outcome
        if reached is not StepOutcome.FAILED and (reached is not None or report.outcome is not StepOutcome.SKIPPED):
            attempts = self._caller.attempts(report.attempt)
            record.record(step.name, StepOutcome.UNDONE, report.reason, attempts, started)

    async def _call(
        self, activity: str, summary: str, kind: CallKind, *content: Any, undo: bool = False, **how: Any
    ) -> Any:
        return await self._caller.call(activity, summary, kind, StepContext.of(self._order, undo=undo), *content, **how)

    # Small things

    def _look(self) -> None:
        """A cancel that an activity's completion hid is still a cancel."""
        if workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError

    def _tag(self) -> None:
        """For runs that were started without the client's search attributes."""
        if workflow.info().typed_search_attributes.get(TENANT) is None:
            workflow.upsert_search_attributes(
                [TENANT.value_set(self._order.tenant), OPERATION.value_set(self._order.operation)]
            )

    def _log(self, event: str, step: str | None, kind: str) -> None:
        """Without the failure's words, as telemetry.logs says. Silent in a replay."""
        about = {"tenant": self._order.tenant, "order_id": self._order.order_id, "step": step, "kind": kind}
        workflow.logger.warning(event, extra=about)


def _refused_by(step: Step[Any], failure: Exception) -> bool:
    """Return whether the failure of a gate says that the order has nothing to work on."""
    return step.gate and isinstance(failure, FailureError) and not mendable(failure)


async def _shielded(work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work` whatever is cancelled meanwhile."""
    task = asyncio.create_task(work)
    while not task.done():
        try:
            await workflow.wait([task])
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None:
                current.uncancel()
    return task.result()


def _ending(failure: BaseException | None, result: OrderResult) -> BaseException:
    """How the run ends in Temporal: Canceled or Failed, with the whole result for the caller."""
    words = f"{result.status.replace('_', ' ')}: {result.reason}"
    if failure is None or result.status is ResultStatus.ABANDONED:
        return ApplicationError(words, result, type="RunAbandonedError", non_retryable=True)
    if is_cancelled_exception(failure):
        return asyncio.CancelledError()
    return ApplicationError(words, result, type=kind_of(failure), non_retryable=True)
