"""The state of an order's run: the current step, the outcome of each step, and the result.

The `progress` query and the step table in the Temporal UI come from here.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

from temporalio import workflow

from activities.messages import StepReport
from activities.order_record import OrderRecord
from lastmile.contract import Order, OrderResult, Parked, Progress, RunStatus, StepResult
from lastmile.contract.results import StepOutcome
from workflows.step_table import step_table

__all__ = ["RunRecord"]


class RunRecord:
    """The state of one run. A method that changes it also updates the Temporal UI."""

    def __init__(self, order: Order, steps: Sequence[str]) -> None:
        self._order = order
        self._steps = steps
        self.status = RunStatus.RUNNING
        self.step: str | None = None
        self.parked: Parked | None = None
        self.waits_until: datetime | None = None
        self.result: OrderResult | None = None

    @cached_property
    def so_far(self) -> OrderRecord:
        """What the steps have done. Made at its first use: a run that was started without an order has none."""
        return OrderRecord.of(self._order, self._steps)

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
            steps=list(self.so_far.steps.values()),
            result=self.result,
        )

    def show(self) -> None:
        """Update the step table in the Temporal UI."""
        workflow.set_current_details(step_table(self.progress()))

    def begin(self, step: str) -> None:
        """Record the current step."""
        self.step = step
        self.show()

    def add_step(self, step: str, report: StepReport) -> None:
        """Record a step that its activity has reported."""
        self.so_far.add_step(step, report)
        self.show()

    def add_undo(self, step: str, report: StepReport) -> None:
        """Record the undo of a step that its activity has reported."""
        self.so_far.add_undo(step, report)
        self.show()

    def add_failure(
        self, step: str, outcome: StepOutcome, reason: str, attempts: int | None, started: datetime
    ) -> None:
        """Record that the step, which began at `started`, failed, or warned where it is best-effort."""
        seconds = (workflow.now() - started).total_seconds()
        self.so_far.add(
            StepResult(
                step=step, outcome=outcome, reason=reason, attempts=attempts, started_at=started, seconds=seconds
            )
        )
        self.show()

    def mark(self, step: str, outcome: StepOutcome, reason: str) -> None:
        """Change the outcome and the reason of a step."""
        steps = self.so_far.steps
        steps[step] = steps[step].model_copy(update={"outcome": outcome, "reason": reason})

    def end(self, result: OrderResult) -> OrderResult:
        """Record that the run has ended, and return the result."""
        self.status = RunStatus.ENDED
        self.step = None
        self.so_far.steps = {step.step: step for step in result.steps}
        self.result = result
        self.show()
        return result
