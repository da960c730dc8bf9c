"""Steps, undo, pivot, parking and operator controls. Nothing else knows how these work.

The rules (DESIGN sections 2 and 6):
- A step that touches nothing but the database runs as a local activity, which costs a third. One that needs more
  declines there, as does one that fails; it is done as an activity proper then, where an operator sees each attempt.
- What local activities did is in the history only once their workflow task has ended. A worker that dies before
  leaves no trace of them, and they run again. So a rollback takes back every step, reached or not, and what must
  not run again unknown to the history is an activity proper: a rollback's beginning, the pivot, the closing.
- A cancel is heard only between workflow tasks. So the last step before the pivot, and the last of all, are activities
  proper: the cancel that came during the local ones is known before there is no more way back, or no more result.
- Undo, and everything from the pivot on, runs in a task of its own that no cancel reaches. The run waits for
  it and swallows the cancels that come meanwhile: a task that nobody waits for would be lost.
- A cancel can be hidden by an activity that completes all the same, so there is a look at
  `cancellation_reason()` before and after each step.
- What keeps failing where there is no way back parks: the run stays open until an operator decides.
- `CancelledError` is caught beside `Exception`, `BaseException` is not: that is also how the SDK evicts a run.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from activities.signatures import BEYOND_DATABASE, Opened, OrderClosing, OrderOpening, Outcome, StepReport
from workflows.attributes import ATTENTION, OPERATION, STEP, TENANT
from workflows.contract import (
    Created,
    Decision,
    Order,
    OrderResult,
    Progress,
    ResultStatus,
    RunStatus,
    StepOutcome,
)
from workflows.failures import attempt_of, kind_of, mendable, words_of
from workflows.table import step_table

__all__ = ["Choice", "Kind", "Saga", "Step"]

OrderT = TypeVar("OrderT", bound=Order)
T = TypeVar("T")


class Kind(Enum):
    """What a step talks to, which decides how long it may take and how often it is tried."""

    DATABASE = auto()
    IPAM = auto()
    RADIUS = auto()
    DEVICE = auto()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one attempt may take, and how many there are. Attempts are counted and not timed: an hour
    without workers is no reason to roll back."""

    attempt: timedelta
    attempts: int
    longest_pause: timedelta
    heartbeat: timedelta | None = None


# A database that is away for two minutes is waited for; an attempt outlives every time-out in db.database, and three
# of NetBox, whose lock one waits for.
PATIENCE = {
    Kind.DATABASE: Patience(timedelta(seconds=15), 30, timedelta(seconds=5)),
    Kind.IPAM: Patience(timedelta(seconds=60), 30, timedelta(seconds=5)),
    Kind.RADIUS: Patience(timedelta(seconds=120), 10, timedelta(seconds=10)),
    Kind.DEVICE: Patience(timedelta(minutes=3), 10, timedelta(seconds=30), heartbeat=timedelta(seconds=20)),
}


LOCAL_ATTEMPT = timedelta(seconds=15)
"""How long the one attempt as a local activity may take."""


@dataclass(frozen=True, slots=True)
class Step(Generic[OrderT]):
    """One step: an activity, and the activity that takes it back."""

    name: str
    title: str
    kind: Kind
    undo: str | None = None
    content: Callable[[OrderT], tuple[Any, ...]] = lambda _: ()
    """What the activity needs of the order beside its reference."""
    best_effort: bool = False
    """Its failure is a warning, and the order ends degraded."""
    pivot: bool = False
    """From here on only forward."""


class Choice(Enum):
    """What an operator can decide about a parked step."""

    RETRY = "retry_step"
    SKIP = "skip_step"
    ABANDON = "abandon"


class Abandoned(Exception):
    """An operator ended the run as it stands."""


class Saga(Generic[OrderT]):
    """One order on its way through its steps."""

    def __init__(self, order: OrderT | None, steps: Sequence[Step[OrderT]]) -> None:
        self._order: OrderT = order  # type: ignore[assignment]  # without one, `run` ends at once
        self._steps = steps
        self._outcomes = {step.name: StepOutcome(step=step.name) for step in steps}
        self._facts: dict[str, str] = {}
        self._warnings: list[str] = []
        self._status = RunStatus.RUNNING
        self._current: str | None = None
        self._attention = ""
        self._decision: tuple[Choice, Decision] | None = None
        self._calls = 0
        self._local_attempts = 0
        """Of the last activity called: to be added to the attempts that it tells of itself."""
        self._result: OrderResult | None = None

    # What the world sees

    def progress(self) -> Progress:
        return Progress(
            operation=self._order.operation,
            order_id=self._order.order_id,
            status=self._status,
            step=self._current,
            attention=self._attention,
            steps=list(self._outcomes.values()),
            result=self._result,
        )

    def check(self, decision: Decision) -> None:
        """Raise unless there is a parked step that this decision can be about."""
        if self._status is not RunStatus.PARKED or self._decision is not None:
            raise ApplicationError("no step is parked: there is nothing to decide", type="NotParked")
        if decision.step not in (None, self._current):
            raise ApplicationError(f"the parked step is {self._current}, not {decision.step}", type="NotParked")

    def decide(self, choice: Choice, decision: Decision) -> None:
        self._decision = (choice, decision)

    # The order, from beginning to end

    async def run(self) -> OrderResult:
        """Run the order to its end, whatever happens; returns its result, or raises what the run ends with."""
        if self._order is None:  # from the Temporal UI with its input left empty; no model objects to that
            raise ApplicationError("the run was started without an order", type="NoOrder", non_retryable=True)
        self._tag()
        opened = await _shielded(self._open())
        if opened.result is not None:
            return self._end(OrderResult.model_validate(opened.result))
        pivot = next((index for index, step in enumerate(self._steps) if step.pivot), len(self._steps))
        if opened.taken_over and pivot < len(self._steps):
            pivot = 0  # the lost run may have passed it: there is no way back
        try:
            for step in self._steps[:pivot]:
                self._look()
                await self._attempt(step, local=step is not self._steps[pivot - 1])
            self._look()
        except (Exception, asyncio.CancelledError) as failure:
            result = await _shielded(self._roll_back(failure))
            raise _ending(failure, result) from None
        result = await _shielded(self._go_forward(self._steps[pivot:]))
        if result.status is ResultStatus.ABANDONED:
            raise _ending(Abandoned(), result)
        return result

    async def _open(self) -> Opened:
        """Begin; what was there of the order before."""
        opening = OrderOpening(operation=self._order.operation, digest=self._order.digest)
        try:
            opened: Opened = await self._call("open_order", "open the order", Kind.DATABASE, opening, returns=Opened)
            return opened
        except FailureError as failure:
            # Nothing was done yet, so there is nothing to undo.
            raise ApplicationError(words_of(failure), type=kind_of(failure), non_retryable=True) from None

    async def _go_forward(self, steps: Sequence[Step[OrderT]]) -> OrderResult:
        """The steps from the pivot on: each happens, or an operator answers for it."""
        try:
            for step in steps:
                work = partial(self._attempt, step, local=not step.pivot and step is not steps[-1])
                await self._insist(step.name, work)
        except Abandoned as word:
            return await self._close(ResultStatus.ABANDONED, str(word))
        if steps and workflow.cancellation_reason() is not None:
            self._warnings.append("a cancel was asked for after the point of no return, and was not followed")
        return await self._close(ResultStatus.DEGRADED if self._warnings else ResultStatus.COMPLETED)

    async def _begin_rollback(self) -> None:
        """From here on no step of the order can act any more, and the history knows why."""
        await self._call("begin_rollback", "begin the rollback", Kind.DATABASE, undo=True, local=False)

    async def _roll_back(self, failure: BaseException) -> OrderResult:
        """Undo every step, last first; a failure is no reason to stop."""
        self._status = RunStatus.ROLLING_BACK
        cancelled = is_cancelled_exception(failure)
        reason = "cancelled" if cancelled else f"{self._current}: {words_of(failure)}"
        workflow.upsert_search_attributes([STEP.value_set(self._current or "")])
        self._log("order.rolling_back", self._current, kind_of(failure))
        try:
            await self._insist("begin_rollback", self._begin_rollback)
            for step in reversed([step for step in self._steps if step.undo is not None]):
                await self._insist(step.name, partial(self._undo, step))
        except Abandoned as word:
            return await self._close(ResultStatus.ABANDONED, f"{reason}; {word}")
        return await self._close(ResultStatus.ROLLED_BACK, reason, cancelled=cancelled, failure=kind_of(failure))

    async def _close(
        self, status: ResultStatus, reason: str = "", *, cancelled: bool = False, failure: str = ""
    ) -> OrderResult:
        """Record how the order ended, before anybody is told."""
        result = OrderResult(
            operation=self._order.operation,
            tenant=self._order.tenant,
            order_id=self._order.order_id,
            subscriber_ref=self._order.subscriber_ref,
            status=status,
            reason=reason,
            created=Created() if status is ResultStatus.ROLLED_BACK else Created.model_validate(self._facts),
            steps=list(self._outcomes.values()),
            warnings=self._warnings,
        )
        closing = OrderClosing(
            status=status, result=result.model_dump(mode="json"), cancelled=cancelled, failure=failure
        )
        with suppress(Abandoned):  # the order's row stays unfinished then, which the audit reports
            await self._insist(
                "close_order",
                lambda: self._call("close_order", "record the outcome", Kind.DATABASE, closing, local=False),
            )
        return self._end(result)

    def _end(self, result: OrderResult) -> OrderResult:
        self._status = RunStatus.ENDED
        self._current = None
        self._result = result
        self._show()
        return result

    # One step

    async def _attempt(self, step: Step[OrderT], *, local: bool) -> None:
        """Run a step and record what it says; raises what it fails with, unless it is best-effort."""
        started = workflow.now()
        self._current = step.name
        self._show()
        try:
            report = await self._call(
                step.name,
                step.title,
                step.kind,
                *step.content(self._order),
                returns=StepReport,
                local=local,
            )
        except (Exception, asyncio.CancelledError) as failure:
            cancelled = is_cancelled_exception(failure)
            lenient = step.best_effort and not cancelled
            self._record(
                step,
                Outcome.WARNED if lenient else Outcome.FAILED,
                "cancelled" if cancelled else words_of(failure),
                attempt_of(failure),
                started,
            )
            if not lenient:
                raise
            return
        self._facts |= report.facts
        self._record(step, report.outcome, report.reason, report.attempt, started)

    async def _undo(self, step: Step[OrderT]) -> None:
        assert step.undo is not None
        started = workflow.now()
        self._current = step.name
        self._show()
        report = await self._call(
            step.undo,
            f"undo: {step.title}",
            step.kind,
            returns=StepReport,
            undo=True,
            name=f"undo_{step.name}",
        )
        if report.outcome is Outcome.WARNED:
            self._warnings.append(f"undo of {step.name}: {report.reason}")
        # What failed stays to be seen, with its words; and what was never reached was not undone either.
        reached = self._outcomes[step.name].outcome
        if reached is not Outcome.FAILED and (reached is not None or report.outcome is not Outcome.SKIPPED):
            self._record(step, Outcome.UNDONE, report.reason, report.attempt, started)

    async def _call(
        self,
        activity: str,
        summary: str,
        kind: Kind,
        *content: Any,
        returns: Any = None,
        undo: bool = False,
        name: str = "",
        local: bool = True,
    ) -> Any:
        """An activity's return; raises what it fails with. `local`: first as a local activity, once."""
        # Replay compares activity ids and not arguments: a name tells two activities of one type apart.
        self._calls += 1
        activity_id = f"{name or activity}-{self._calls}"
        arguments = [self._order.ref(undo=undo), *content]
        self._local_attempts = 0
        if local:
            try:
                return await workflow.execute_local_activity(
                    activity,
                    args=arguments,
                    result_type=returns,
                    activity_id=activity_id,
                    summary=summary,
                    start_to_close_timeout=LOCAL_ATTEMPT,
                    retry_policy=RetryPolicy(maximum_attempts=1),
                    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                )
            except FailureError as failure:
                if is_cancelled_exception(failure) or not mendable(failure):
                    raise
                self._local_attempts = 0 if kind_of(failure) == BEYOND_DATABASE else 1
        patience = PATIENCE[kind]
        return await workflow.execute_activity(
            activity,
            args=arguments,
            result_type=returns,
            activity_id=f"{activity_id}-again" if local else activity_id,
            summary=summary,
            start_to_close_timeout=patience.attempt,
            heartbeat_timeout=patience.heartbeat,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=200),
                maximum_interval=patience.longest_pause,
                maximum_attempts=patience.attempts,
            ),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

    def _record(self, step: Step[OrderT], outcome: Outcome, reason: str, attempts: int | None, started: Any) -> None:
        if outcome is Outcome.WARNED:
            self._warnings.append(f"{step.name}: {reason}")
        self._outcomes[step.name] = StepOutcome(
            step=step.name,
            outcome=outcome,
            reason=reason,
            attempts=None if attempts is None else attempts + self._local_attempts,
            started_at=started,
            seconds=(workflow.now() - started).total_seconds(),
        )
        self._show()

    # Parking

    async def _insist(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Do it, or wait for an operator's word, again and again. Raises `Abandoned`; None where it is skipped."""
        while True:
            try:
                return await work()
            except Exception as failure:
                choice, decision = await self._park(name, failure)
                word = f"{name}: {choice.value} by {decision.by}: {decision.why}"
            if choice is Choice.ABANDON:
                raise Abandoned(word)
            if choice is Choice.SKIP:
                self._warnings.append(word)
                if name in self._outcomes:
                    self._outcomes[name] = self._outcomes[name].model_copy(
                        update={"outcome": Outcome.FAILED, "reason": word}
                    )
                return None

    async def _park(self, name: str, failure: Exception) -> tuple[Choice, Decision]:
        before, self._status = self._status, RunStatus.PARKED
        self._current = name
        self._attention = f"{name} failed: {words_of(failure)}"
        workflow.upsert_search_attributes([STEP.value_set(name), ATTENTION.value_set(True)])
        self._show()
        self._log("run.parked", name, kind_of(failure))
        await workflow.wait_condition(lambda: self._decision is not None)
        assert self._decision is not None
        decided, self._decision = self._decision, None
        self._status = before
        self._attention = ""
        workflow.upsert_search_attributes([ATTENTION.value_set(False)])
        self._show()
        return decided

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

    def _show(self) -> None:
        workflow.set_current_details(step_table(self.progress()))


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


def _ending(failure: BaseException, result: OrderResult) -> BaseException:
    """How the run ends in Temporal: Canceled or Failed, with the whole result for the caller."""
    if isinstance(failure, Abandoned) or result.status is ResultStatus.ABANDONED:
        return ApplicationError(f"abandoned: {result.reason}", result, type="Abandoned", non_retryable=True)
    if is_cancelled_exception(failure):
        return asyncio.CancelledError()
    return ApplicationError(f"rolled back: {result.reason}", result, type=kind_of(failure), non_retryable=True)
