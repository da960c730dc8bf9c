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

from activities.group_messages import GroupReport, StepCall, StepFailure, StepGroup
from activities.messages import BEYOND_DATABASE, StepContext, StepReport
from activities.order_record import OrderClosing
from lastmile.contract import Order, OrderResult
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
        closing: Callable[[], OrderClosing] | None = None,
        begun: GroupReport | None = None,
    ) -> OrderResult | None:
        """Run the steps: as many as possible in groups, the others with `run_alone`.

        `closing`: the order ends with these steps; the last group closes it. Returns the order's result; None where the
        order is not closed. `begun` reports a first group that has run. Raises what `run_alone` raises; before the
        pivot also `CancelledError`.
        """
        ahead = list(steps)
        while ahead:
            steps_of_group = list(takewhile(lambda step: not step.pivot, ahead))
            if begun is None and steps_of_group:
                self.follow_cancel()
                last = len(steps_of_group) == len(ahead)
                group = self.group(steps_of_group, undo=undo, last=last, closing=closing)
                begun = await shielded(self._run_group(steps_of_group, group, undo=undo))
            if begun is not None:
                if begun.result is not None:
                    return begun.result
                del ahead[: self._record_group(steps_of_group, begun, undo=undo)]
                if not ahead:
                    await self._follow_unseen_cancel(begun.wanted)
                begun = None
            if ahead:
                self.follow_cancel()
                await run_alone(ahead.pop(0))
        return None

    def group(
        self,
        steps: Sequence[Step[OrderT]],
        *,
        undo: bool = False,
        last: bool = False,
        closing: Callable[[], OrderClosing] | None = None,
    ) -> StepGroup:
        """Return the group of the steps; `last`: they are followed by the pivot, or by the closing."""
        return StepGroup(
            calls=[self._call(step, undo=undo) for step in steps],
            asks=last and self._caller.reversible,
            closing=closing() if last and closing is not None else None,
        )

    def _call(self, step: Step[OrderT], *, undo: bool) -> StepCall:
        if undo:
            return StepCall(step=step.name, activity=step.undo or "")
        return StepCall(step=step.name, activity=step.name, content=list(step.content(self._order)))

    async def _run_group(self, steps: Sequence[Step[OrderT]], group: StepGroup, *, undo: bool) -> GroupReport:
        """Run the steps in one transaction, and return how far they came.

        Where the group itself fails, its steps may have happened or not. Then the first one runs alone, and the others
        form a new group: a step that has happened changes nothing the second time. But in an order that is closed no
        step can run again, so a group that closes the order runs again as a regular activity.
        """
        self._record.begin(steps[0].name)
        what = summary("", steps, undo=undo, closing=group.closing is not None)
        name = id_of("run_steps", steps)
        try:
            report: GroupReport = await self._caller.try_locally(
                "run_steps", what, StepContext.of(self._order, undo=undo), group, returns=GroupReport, name=name
            )
        except FailureError as failure:
            if group.closing is None:
                return GroupReport(failure=StepFailure(type=type_of(failure)))
            try:
                report = await self.call(
                    "run_steps", what, CallKind.DATABASE, group, undo=undo, returns=GroupReport, name=name
                )
            except FailureError as failure:
                return GroupReport(failure=StepFailure(type=type_of(failure)))
        return report

    def _record_group(self, steps: Sequence[Step[OrderT]], group: GroupReport, *, undo: bool) -> int:
        """Record the outcomes of the steps, and return how many were done."""
        for step, report in zip(steps, group.steps, strict=False):
            if undo:
                self._record.add_undo(step.name, report)
            else:
                self._record.add_step(step.name, report)
        done = len(group.steps)
        if group.failure is not None and group.failure.type != BEYOND_DATABASE:
            self._failures_in_group[steps[done].name] = group.failure
        return done

    async def _follow_unseen_cancel(self, wanted: bool | None) -> None:
        """Raise `CancelledError` after a cancel that came in this workflow task, as a group has learned."""
        if not self._caller.reversible or wanted:
            return
        if wanted is None:  # a run sees a cancel once a regular activity has ended its workflow task
            await shielded(
                self.call("run_steps", "end the workflow task", CallKind.DATABASE, StepGroup(), returns=GroupReport)
            )
            self.follow_cancel()
            return
        raise asyncio.CancelledError

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
            record.add_failure(step.name, outcome, message, self._caller.attempts_failed(failure), started)
            if not lenient:
                raise
            return
        record.add_step(step.name, self._timed(report, started))
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

    def _timed(self, report: StepReport, started: datetime) -> StepReport:
        """Return the report of an activity with all its attempts and their time."""
        seconds = (workflow.now() - started).total_seconds()
        attempts = self._caller.attempts(report.attempt)
        return report.model_copy(update={"attempt": attempts, "started_at": started, "seconds": seconds})

    async def undo(self, step: Step[OrderT]) -> None:
        """Undo a step and record the outcome."""
        assert step.undo is not None
        started = workflow.now()
        self._record.begin(step.name)
        report = await self._run_alone(step, step.undo, f"undo: {step.title}", undo=True, name=f"undo_{step.name}")
        self._record.add_undo(step.name, self._timed(report, started))

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


def summary(work: str, steps: Sequence[Step[Any]], *, undo: bool = False, closing: bool = False) -> str:
    """Return the summary of an activity, for the Temporal UI: the names of its steps."""
    names = [f"undo_{step.name}" if undo else step.name for step in steps]
    parts = [*([work] if work else []), *names, *(["close the order"] if closing else [])]
    return ", ".join(parts)[:SUMMARY_LENGTH]
