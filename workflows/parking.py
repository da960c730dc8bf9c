"""Parking: a run whose step or undo keeps failing waits for an operator's decision."""

from collections.abc import Callable, Coroutine
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from lastmile.contract import Choice, Decision, Parked, RunStatus, TakenDecision
from lastmile.contract.results import StepOutcome
from lastmile.errors import LastmileError
from workflows.failure_details import message_of, type_of
from workflows.run_record import RunRecord
from workflows.search_attributes import ATTENTION, STEP

__all__ = ["Parking", "RunAbandonedError"]


class RunAbandonedError(LastmileError):
    """An operator ended the run and left everything as it was."""


class Parking:
    """The parking of one run.

    Args:
        record: The state of the run.
        attempts: Returns the number of attempts of the activity that failed.
        log: Writes a log line with the event, the step and the type of the failure.
    """

    def __init__(
        self,
        record: RunRecord,
        attempts: Callable[[BaseException], int | None],
        log: Callable[[str, str | None, str], None],
    ) -> None:
        self._record = record
        self._attempts = attempts
        self._log = log
        self._decision: tuple[Choice, Decision] | None = None

    def check(self, decision: Decision) -> None:
        """Raise `ApplicationError` unless the run is parked at the step of the decision."""
        parked = self._record.parked
        if parked is None or self._decision is not None:
            raise ApplicationError("No step is parked: there is nothing to decide.", type="NotParked")
        if decision.step not in (None, parked.step):
            raise ApplicationError(f"The parked step is {parked.step}, not {decision.step}.", type="NotParked")

    def decide(self, choice: Choice, decision: Decision) -> None:
        """Take the decision, with which the run continues."""
        self._decision = (choice, decision)

    async def insist(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, object]],
        *,
        undo: bool = False,
        final: Callable[[Exception], bool] = lambda _: False,
    ) -> TakenDecision | None:
        """Do the work. Where it fails, park the run until an operator decides, and retry as often as they ask.

        Args:
            name: The step, or the name of other work.
            work: Does the work.
            undo: The work is the undo of the step.
            final: Returns whether a failure is raised at once instead of parking the run.

        Returns the decision that skipped the work; None: the work is done. Raises `RunAbandonedError`, and final
        failures.
        """
        before = self._record.so_far.steps.get(name)
        parked: Parked | None = None
        while True:
            try:
                await work()
                return None
            except Exception as failure:
                if final(failure):
                    raise
                parked = self._parked(name, undo, failure, parked)
                taken = await self._wait(parked, type_of(failure))
            if taken.choice is not Choice.RETRY:
                break
            if undo and before is not None:  # the retry may still undo what the step did
                self._record.so_far.steps[name] = before
        if before is not None:
            self._record.mark(name, StepOutcome.UNDO_FAILED if undo else StepOutcome.FAILED, taken.text)
        if taken.choice is Choice.ABANDON:
            raise RunAbandonedError(taken.text)
        self._record.so_far.warnings.append(taken.text)
        return taken

    def _parked(self, name: str, undo: bool, failure: Exception, before: Parked | None) -> Parked:
        """Return the failure that the run parks with; `before` is the one before an operator asked for a retry."""
        tries = self._attempts(failure)
        if before is not None:
            tries = None if tries is None or before.attempts is None else before.attempts + tries
        return Parked(
            step=name,
            undo=undo,
            failure=message_of(failure),
            attempts=tries,
            since=before.since if before else workflow.now(),
        )

    async def _wait(self, parked: Parked, kind: str) -> TakenDecision:
        record = self._record
        status, record.status = record.status, RunStatus.PARKED
        record.step = parked.step
        record.parked = parked
        if parked.undo and parked.step in record.so_far.steps:
            record.mark(parked.step, StepOutcome.UNDO_FAILED, parked.failure)
        workflow.upsert_search_attributes([STEP.value_set(parked.step), ATTENTION.value_set(True)])
        record.show()
        self._log("run.parked", parked.step, kind)
        await workflow.wait_condition(lambda: self._decision is not None)
        assert self._decision is not None
        (choice, decision), self._decision = self._decision, None
        taken = TakenDecision(
            choice=choice,
            step=parked.step,
            undo=parked.undo,
            failure=parked.failure,
            by=decision.by,
            why=decision.why,
            at=workflow.now(),
        )
        record.so_far.decisions.append(taken)
        record.status = status
        record.parked = None
        workflow.upsert_search_attributes([ATTENTION.value_set(False)])
        record.show()
        return taken
