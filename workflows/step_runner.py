"""Run the steps of an order, or their undos, in groups or alone, and record the outcome of each.

Steps that touch only the database run in groups: one local activity and one transaction for as many as possible. A step
that needs another system, or that fails, ends its group and runs as a regular activity.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from activities.messages import BEYOND_DATABASE, GroupReport, StepCall, StepContext, StepFailure, StepReport
from lastmile.contract import Order
from lastmile.contract.results import StepOutcome
from lastmile.contract.steps import CallKind, Step
from workflows.failure_details import message_of, type_of
from workflows.run_record import RunRecord
from workflows.search_attributes import STEP
from workflows.shielding import shielded
from workflows.step_activity import Caller

__all__ = ["StepRunner", "cancel_requested", "id_of", "summary"]

OrderT = TypeVar("OrderT", bound=Order)

SUMMARY_LENGTH = 200
"""The bytes of a summary that Temporal accepts."""


class StepRunner(Generic[OrderT]):
    """Runs the steps of one order, and records their outcomes in the record of the run."""

    def __init__(self, order: OrderT, record: RunRecord, caller: Caller) -> None:
        self._order = order
        self._record = record
        self._caller = caller
        self._failures_in_group: dict[str, StepFailure] = {}
        """By step, where the step or its undo failed in a group and has not run alone since."""

    def begin_rollback(self) -> None:
        """Forget the failures of steps: from now on undos run."""
        self._failures_in_group.clear()

    # Groups of steps

    async def run_in_groups(
        self,
        steps: Sequence[Step[OrderT]],
        run_alone: Callable[[Step[OrderT]], Awaitable[None]],
        *,
        undo: bool = False,
        begun: GroupReport | None = None,
    ) -> None:
        """Run the steps: as many as possible in groups, the others with `run_alone`.

        `begun` reports a first group that has run. Raises what `run_alone` raises; before the pivot also
        `CancelledError`.
        """
        ahead = list(steps)
        while ahead:
            group = list(takewhile(lambda step: not step.pivot, ahead))
            if begun is None and group:
                self.follow_cancel()
                begun = await shielded(self._run_group(group, undo=undo))
            if begun is not None:
                del ahead[: self._record_group(group, begun, undo=undo)]
                begun = None
            if ahead:
                self.follow_cancel()
                await run_alone(ahead.pop(0))

    async def _run_group(self, steps: Sequence[Step[OrderT]], *, undo: bool) -> GroupReport:
        """Run the steps in one transaction, and return how far they came.

        Where the group itself fails, its steps may have happened or not. Then the first one runs alone, and the others
        form a new group: a step that has happened changes nothing the second time.
        """
        self._record.begin(steps[0].name)
        try:
            report: GroupReport = await self._caller.try_locally(
                "run_steps",
                summary("", steps, undo=undo),
                StepContext.of(self._order, undo=undo),
                self.calls(steps, undo=undo),
                returns=GroupReport,
                name=id_of("run_steps", steps),
            )
        except FailureError as failure:
            return GroupReport(failure=StepFailure(type=type_of(failure)))
        return report

    def _record_group(self, steps: Sequence[Step[OrderT]], group: GroupReport, *, undo: bool) -> int:
        """Record the outcomes of the steps, and return how many were done."""
        for step, report in zip(steps, group.steps, strict=False):
            assert report.started_at is not None
            if undo:
                self._record_undo(step, report, report.attempt, report.started_at)
            else:
                self._record_step(step, report, report.attempt, report.started_at)
        done = len(group.steps)
        if group.failure is not None and group.failure.type != BEYOND_DATABASE:
            self._failures_in_group[steps[done].name] = group.failure
        return done

    def calls(self, steps: Sequence[Step[OrderT]], *, undo: bool = False) -> list[StepCall]:
        """Return the activities of the steps, or of their undos, with what they get of the order."""
        if undo:
            return [StepCall(activity=step.undo or "") for step in steps]
        return [StepCall(activity=step.name, content=list(step.content(self._order))) for step in steps]

    # One step

    async def attempt(self, step: Step[OrderT]) -> None:
        """Run a step and record its outcome. Raise its failure, unless the step is best-effort."""
        record = self._record
        started = workflow.now()
        record.begin(step.name)
        try:
            report = await self._run_alone(step, step.name, step.title, *step.content(self._order))
        except (Exception, asyncio.CancelledError) as failure:
            cancelled = is_cancelled_exception(failure)
            lenient = step.best_effort and not cancelled
            outcome = StepOutcome.WARNED if lenient else StepOutcome.FAILED
            message = "cancelled" if cancelled else message_of(failure)
            record.record(step.name, outcome, message, self._caller.attempts_failed(failure), started)
            if not lenient:
                raise
            return
        self._record_step(step, report, self._caller.attempts(report.attempt), started)
        await self._wait(step, report.waits_until)

    async def _wait(self, step: Step[OrderT], until: datetime | None) -> None:
        """Wait until then by a durable timer: the run holds no worker meanwhile. After the pivot no cancel ends it."""
        if until is None or (left := until - workflow.now()) <= timedelta():
            return
        record = self._record
        record.waits_until = until
        workflow.upsert_search_attributes([STEP.value_set(step.name)])
        record.show()
        await workflow.sleep(left, summary=f"{step.name}: wait until {until:%Y-%m-%d %H:%M:%S} UTC")
        record.waits_until = None
        record.show()

    def _record_step(self, step: Step[OrderT], report: StepReport, attempts: int | None, started: datetime) -> None:
        record = self._record
        record.facts[step.name] = report.facts
        record.notes += report.notes
        record.record(step.name, report.outcome, report.reason, attempts, started, report.seconds)

    async def undo(self, step: Step[OrderT]) -> None:
        """Undo a step and record the outcome."""
        assert step.undo is not None
        started = workflow.now()
        self._record.begin(step.name)
        report = await self._run_alone(step, step.undo, f"undo: {step.title}", undo=True, name=f"undo_{step.name}")
        self._record_undo(step, report, self._caller.attempts(report.attempt), started)

    def _record_undo(self, step: Step[OrderT], report: StepReport, attempts: int | None, started: datetime) -> None:
        record = self._record
        record.facts.pop(step.name, None)
        if report.outcome is StepOutcome.WARNED:
            record.warnings.append(f"undo of {step.name}: {report.reason}")
        # A failed step keeps its outcome and reason. A step that the order did not reach was not undone.
        reached = record.outcomes[step.name].outcome
        if reached is not StepOutcome.FAILED and (reached is not None or report.outcome is not StepOutcome.SKIPPED):
            record.record(step.name, StepOutcome.UNDONE, report.reason, attempts, started, report.seconds)

    async def _run_alone(self, step: Step[OrderT], activity: str, title: str, *content: Any, **how: Any) -> StepReport:
        """Run a step, or its undo, as an activity of its own; raise its failure in a group where no retry can help."""
        before = self._failures_in_group.pop(step.name, None)
        if before is not None and before.final:
            self._caller.failed_in_group()
            raise ApplicationError(before.message, 1, type=before.type, non_retryable=True)
        earlier = 0 if before is None else 1
        report: StepReport = await self.call(
            activity, title, step.kind, *content, returns=StepReport, earlier=earlier, **how
        )
        return report

    async def call(
        self, activity: str, title: str, kind: CallKind, *content: Any, undo: bool = False, **how: Any
    ) -> Any:
        """Run an activity of the order as a regular activity."""
        return await self._caller.call(activity, title, kind, StepContext.of(self._order, undo=undo), *content, **how)

    def follow_cancel(self) -> None:
        """Raise `CancelledError` after a cancel before the pivot, even if a completed activity has hidden it."""
        if self._caller.reversible and cancel_requested():
            raise asyncio.CancelledError


def cancel_requested() -> bool:
    """Return whether a cancel of the run was requested."""
    return workflow.cancellation_reason() is not None


def id_of(activity: str, steps: Sequence[Step[Any]]) -> str:
    """Return the beginning of a group's activity id. It differs with the steps, so that a replay compares them."""
    return f"{activity}-{zlib.crc32(' '.join(step.name for step in steps).encode()):08x}"


def summary(work: str, steps: Sequence[Step[Any]], *, undo: bool = False) -> str:
    """Return the summary of an activity, for the Temporal UI: the names of its steps."""
    names = [f"undo_{step.name}" if undo else step.name for step in steps]
    return ", ".join([work, *names] if work else names)[:SUMMARY_LENGTH]
