"""The query and the updates of every order workflow: `progress`, `retry_step`, `skip_step`, `abandon`."""

from typing import Any

from temporalio import workflow

from lastmile.contract import Choice, Decision, Progress
from workflows.saga import Saga

__all__ = ["OrderWorkflow"]


class OrderWorkflow:
    """The base of the order workflows. Handlers can run before `run`, so `__init__` makes the saga."""

    _saga: Saga[Any]

    @workflow.query
    def progress(self) -> Progress:
        """Return the state of the run, step by step."""
        return self._saga.progress()

    @workflow.update
    def retry_step(self, decision: Decision) -> str:
        """Try the parked step again: its cause has been repaired."""
        return self._decide(Choice.RETRY, decision)

    @workflow.update
    def skip_step(self, decision: Decision) -> str:
        """Go on without the parked step: it has been done by hand, or need not be done."""
        return self._decide(Choice.SKIP, decision)

    @workflow.update
    def abandon(self, decision: Decision) -> str:
        """End the run and leave everything as it is."""
        return self._decide(Choice.ABANDON, decision)

    @retry_step.validator
    def _check_retry(self, decision: Decision) -> None:
        self._saga.check(decision)

    @skip_step.validator
    def _check_skip(self, decision: Decision) -> None:
        self._saga.check(decision)

    @abandon.validator
    def _check_abandon(self, decision: Decision) -> None:
        self._saga.check(decision)

    def _decide(self, choice: Choice, decision: Decision) -> str:
        step = self._saga.progress().step
        self._saga.decide(choice, decision)
        return f"{choice.value} of {step} by {decision.by}"
