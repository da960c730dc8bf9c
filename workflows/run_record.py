"""The state of an order's run: the current step, the outcome of each step, and the result.

The `progress` query, the step table in the Temporal UI and the order's result come from here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from temporalio import workflow

from lastmile.contract import (
    Created,
    Order,
    OrderResult,
    Parked,
    Progress,
    ResultStatus,
    RunStatus,
    StepResult,
    TakenDecision,
)
from lastmile.contract.results import StepOutcome
from workflows.step_table import step_table

__all__ = ["RunRecord"]


class RunRecord:
    """The state of one run. A method that changes it also updates the Temporal UI."""

    def __init__(self, order: Order, steps: Sequence[str]) -> None:
        self._order = order
        self.status = RunStatus.RUNNING
        self.step: str | None = None
        self.parked: Parked | None = None
        self.waits_until: datetime | None = None
        self.outcomes = {name: StepResult(step=name) for name in steps}
        self.facts: dict[str, Mapping[str, str]] = {}
        """What each step created and no undo has removed, by field of `Created`."""
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.decisions: list[TakenDecision] = []
        self.result: OrderResult | None = None

    def progress(self) -> Progress:
        """Return the answer to the `progress` query."""
        return Progress(
            operation=self._order.operation,
            order_id=self._order.order_id,
            status=self.status,
            step=self.step,
            attention=f"{self.parked.what} failed: {self.parked.failure}" if self.parked else "",
            parked=self.parked,
            waits_until=self.waits_until,
            steps=list(self.outcomes.values()),
            result=self.result,
        )

    def show(self) -> None:
        """Update the step table in the Temporal UI."""
        workflow.set_current_details(step_table(self.progress()))

    def begin(self, step: str) -> None:
        """Record the current step."""
        self.step = step
        self.show()

    def record(
        self,
        step: str,
        outcome: StepOutcome,
        reason: str,
        attempts: int | None,
        started: datetime,
        seconds: float | None = None,
    ) -> None:
        """Record how the step, which began at `started`, ended; `seconds`: default until now."""
        result = StepResult(
            step=step,
            outcome=outcome,
            reason=reason,
            attempts=attempts,
            started_at=started,
            seconds=(workflow.now() - started).total_seconds() if seconds is None else seconds,
        )
        self.warnings += result.warnings
        self.outcomes[step] = result
        self.show()

    def mark(self, step: str, outcome: StepOutcome, reason: str) -> None:
        """Change the outcome and the reason of a step."""
        self.outcomes[step] = self.outcomes[step].model_copy(update={"outcome": outcome, "reason": reason})

    def result_of(self, status: ResultStatus, reason: str = "") -> OrderResult:
        """Return the order's result; `reason`: why the order was rolled back or abandoned."""
        facts = {name: fact for made in self.facts.values() for name, fact in made.items()}
        return OrderResult(
            operation=self._order.operation,
            tenant=self._order.tenant,
            order_id=self._order.order_id,
            subscriber_ref=self._order.subscriber_ref,
            status=status,
            reason=reason,
            created=Created.model_validate(facts),
            steps=list(self.outcomes.values()),
            warnings=self.warnings,
            notes=self.notes,
            decisions=self.decisions,
            ended_at=workflow.now(),
        )

    def end(self, result: OrderResult) -> OrderResult:
        """Record that the run has ended, and return the result."""
        self.status = RunStatus.ENDED
        self.step = None
        self.outcomes = {step.step: step for step in result.steps}
        self.result = result
        self.show()
        return result
