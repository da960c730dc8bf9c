"""The messages between the workflow of an order and its activities. No I/O: workflows import this module."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from lastmile.contract.lines import Reference, TenantId
from lastmile.contract.orders import LineRequest, Order
from lastmile.contract.results import StepOutcome

__all__ = [
    "BEYOND_DATABASE",
    "OUTAGE",
    "OpenedOrder",
    "OrderClosing",
    "OrderOpening",
    "StepContext",
    "StepReport",
]

OUTAGE = "outage"
"""A detail of a failed activity: an `OutageError` was the cause, so the order is not at fault."""

BEYOND_DATABASE = "BeyondDatabase"
"""The failure type of a step that declines to run as a local activity. The step has done nothing."""


class StepContext(BaseModel):
    """The order that a step works for, and the direction."""

    model_config = ConfigDict(frozen=True)

    tenant: TenantId
    order_id: Reference
    subscriber_ref: Reference
    undo: bool = False
    """The step undoes what this order did, and nothing else."""
    requested_by: str = ""
    """The sender of the order, for the audit log."""

    @classmethod
    def of(cls, order: Order, *, undo: bool = False) -> Self:
        """Return the context of a step, or of an undo, of the order."""
        return cls(
            tenant=order.tenant,
            order_id=order.order_id,
            subscriber_ref=order.subscriber_ref,
            undo=undo,
            requested_by=order.requested_by,
        )


class StepReport(BaseModel):
    """What the activity of a step returns."""

    model_config = ConfigDict(frozen=True)

    outcome: StepOutcome
    reason: str = ""
    facts: dict[str, str] = {}
    """What the step created, by field of `Created`."""
    notes: list[str] = []
    """What the caller of the order should know although nothing failed."""
    attempt: int = 1


class OrderOpening(BaseModel):
    """The input of `open_order`: the order's type and content."""

    model_config = ConfigDict(frozen=True)

    operation: str
    digest: str
    line: LineRequest | None = None
    """The line that the order asks for. A line that is in service already must be the same."""


class OpenedOrder(BaseModel):
    """The result of `open_order`: what the database knew of the order."""

    model_config = ConfigDict(frozen=True)

    result: dict[str, object] | None = None
    """The order's result, where the order has ended before."""
    outdated: str = ""
    """The later order that has changed the line since; empty where there is none."""
    taken_over: bool = False
    """A lost run had begun this order, or an order that this one supersedes. Any step may have happened. The order's
    row keeps this, so a retry of `open_order` returns it too."""


class OrderClosing(BaseModel):
    """The input of `close_order`: how the order ended."""

    model_config = ConfigDict(frozen=True)

    status: str
    result: dict[str, Any]
    cancelled: bool = False
    """The order was rolled back because its caller cancelled it."""
    failure: str = ""
    """The type of the failure that rolled the order back."""

    @property
    def outcomes(self) -> dict[str, StepOutcome]:
        """The outcomes of the steps that the order reached."""
        return {step["step"]: step["outcome"] for step in self.result.get("steps", ()) if step["outcome"]}
