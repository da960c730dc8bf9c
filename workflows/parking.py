"""Parking: what keeps failing where there is no way back waits, in the open, until an operator decides."""

from collections.abc import Callable, Coroutine
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from lastmile.contract import Choice, Decision, Parked, RunStatus, TakenDecision
from lastmile.contract.results import StepOutcome
from lastmile.errors import LastmileError
from workflows.failure_details import kind_of, words_of
from workflows.run_record import RunRecord
from workflows.search_attributes import ATTENTION, STEP

__all__ = ["Parking", "RunAbandonedError"]


class RunAbandonedError(LastmileError):
    """An operator ended the run as it stands."""


class Parking:
    """Of one run.

    Args:
        record: What the run knows of itself.
        attempts: How often the activity was tried that has failed with this.
        log: Writes a line about the run, with the event, the step and the type of the failure.
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
        """Raise unless there is a parked step that this decision can be about."""
        parked = self._record.parked
        if parked is None or self._decision is not None:
            raise ApplicationError("no step is parked: there is nothing to decide", type="NotParked")
        if decision.step not in (None, parked.step):
            raise ApplicationError(f"the parked step is {parked.step}, not {decision.step}", type="NotParked")

    def decide(self, choice: Choice, decision: Decision) -> None:
        """Take the decision; the run goes on with it."""
        self._decision = (choice, decision)

    async def insist(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, object]],
        *,
        undo: bool = False,
        final: Callable[[Exception], bool] = lambda _: False,
    ) -> TakenDecision | None:
        """Do the work, or wait for an operator's decision, again and again.

        Args:
            name: The step, or what else is to be done.
            work: Does it.
            undo: The work is the step's undo.
            final: Whether the run does not wait with this failure, and ends with it.

        Returns the decision by which it was skipped; None: it was done. Raises `RunAbandonedError`, and what is final.
        """
        before = self._record.outcomes.get(name)
        parked: Parked | None = None
        while True:
            try:
                await work()
                return None
            except Exception as failure:
                if final(failure):
                    raise
                parked = self._parked(name, undo, failure, parked)
                taken = await self._wait(parked, kind_of(failure))
            if taken.choice is not Choice.RETRY:
                break
            if undo and before is not None:  # what the step itself did is what the retry may take back
                self._record.outcomes[name] = before
        if before is not None:
            self._record.mark(name, StepOutcome.UNDO_FAILED if undo else StepOutcome.FAILED, taken.text)
        if taken.choice is Choice.ABANDON:
            raise RunAbandonedError(taken.text)
        self._record.warnings.append(taken.text)
        return taken

    def _parked(self, name: str, undo: bool, failure: Exception, before: Parked | None) -> Parked:
        """What the run waits with; `before`: what it waited with until an operator asked for another try."""
        tries = self._attempts(failure)
        if before is not None:
            tries = None if tries is None or before.attempts is None else before.attempts + tries
        return Parked(
            step=name,
            undo=undo,
            failure=words_of(failure),
            attempts=tries,
            since=before.since if before else workflow.now(),
        )

    async def _wait(self, parked: Parked, kind: str) -> TakenDecision:
        record = self._record
        status, record.status = record.status, RunStatus.PARKED
        record.step = parked.step
        record.parked = parked
        if parked.undo and parked.step in record.outcomes:
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
        record.decisions.append(taken)
        record.status = status
        record.parked = None
        workflow.upsert_search_attributes([ATTENTION.value_set(False)])
        record.show()
        return taken
