"""What the steps of an order have done so far. No I/O: workflows import this module.

The workflow of an order keeps this record. The activity that closes the order with its last steps adds those steps to a
copy of the record, by the same rules.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel

from activities.messages import StepReport
from lastmile.contract import Created, Operation, Order, OrderResult, ResultStatus, StepResult, TakenDecision
from lastmile.contract.results import StepOutcome

__all__ = ["OrderClosing", "OrderRecord"]


class OrderRecord(BaseModel):
    """The outcomes of an order's steps, and what its result tells beside them."""

    operation: Operation
    tenant: str
    order_id: str
    subscriber_ref: str
    steps: dict[str, StepResult]
    """By name, in order."""
    facts: dict[str, dict[str, str]] = {}
    """What each step created and no undo has removed, by field of `Created`."""
    warnings: list[str] = []
    notes: list[str] = []
    decisions: list[TakenDecision] = []

    @classmethod
    def of(cls, order: Order, steps: Sequence[str]) -> Self:
        """Return the record of an order that has run none of its steps."""
        return cls(
            operation=order.operation,
            tenant=order.tenant,
            order_id=order.order_id,
            subscriber_ref=order.subscriber_ref,
            steps={name: StepResult(step=name) for name in steps},
        )

    def add(self, result: StepResult) -> None:
        """Add the outcome of a step."""
        self.steps[result.step] = result
        self.warnings += result.warnings

    def add_step(self, step: str, report: StepReport) -> None:
        """Add a step that its activity has reported."""
        self.facts[step] = report.facts
        self.notes += report.notes
        self.add(_result(step, report.outcome, report))

    def add_undo(self, step: str, report: StepReport) -> None:
        """Add the undo of a step that its activity has reported."""
        self.facts.pop(step, None)
        if report.outcome is StepOutcome.WARNED:
            self.warnings.append(f"undo of {step}: {report.reason}")
        # A failed step keeps its outcome and reason. A step that the order did not reach was not undone.
        reached = self.steps[step].outcome
        if reached is not StepOutcome.FAILED and (reached is not None or report.outcome is not StepOutcome.SKIPPED):
            self.add(_result(step, StepOutcome.UNDONE, report))

    def result(self, status: ResultStatus, reason: str, ended_at: datetime) -> OrderResult:
        """Return the order's result; `reason`: why the order was rolled back or abandoned."""
        facts = {name: fact for made in self.facts.values() for name, fact in made.items()}
        return OrderResult(
            operation=self.operation,
            tenant=self.tenant,
            order_id=self.order_id,
            subscriber_ref=self.subscriber_ref,
            status=status,
            reason=reason,
            created=Created.model_validate(facts),
            steps=list(self.steps.values()),
            warnings=self.warnings,
            notes=self.notes,
            decisions=self.decisions,
            ended_at=ended_at,
        )


class OrderClosing(BaseModel):
    """How an order ends."""

    record: OrderRecord
    status: ResultStatus
    """An order that is completed with warnings is degraded."""
    reason: str = ""
    """Why the order was rolled back or abandoned."""
    cancelled: bool = False
    """The order was rolled back because its caller cancelled it."""
    failure: str = ""
    """The type of the failure that rolled the order back."""

    def result(self, ended_at: datetime) -> OrderResult:
        """Return the order's result."""
        degraded = self.status is ResultStatus.COMPLETED and self.record.warnings
        return self.record.result(ResultStatus.DEGRADED if degraded else self.status, self.reason, ended_at)


def _result(step: str, outcome: StepOutcome, report: StepReport) -> StepResult:
    return StepResult(
        step=step,
        outcome=outcome,
        reason=report.reason,
        attempts=report.attempt,
        started_at=report.started_at,
        seconds=report.seconds,
    )
