"""The messages between the workflow of an order and its activities. No I/O: workflows import this module."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from lastmile.contract.lines import Reference, TenantId
from lastmile.contract.orders import Order
from lastmile.contract.results import StepOutcome

__all__ = [
    "BEYOND_DATABASE",
    "OUTAGE",
    "StepContext",
    "StepReport",
]

OUTAGE = "outage"
"""A detail of a failed activity: an `OutageError` was the cause, so the order is not at fault."""

BEYOND_DATABASE = "BeyondDatabase"
"""The failure type of a step that declines to run in a group."""


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
    adopts: bool = False
    """The line is in service elsewhere: the order tells no session, NAS or controller."""

    @classmethod
    def of(cls, order: Order, *, undo: bool = False) -> Self:
        """Return the context of a step, or of an undo, of the order."""
        return cls(
            tenant=order.tenant,
            order_id=order.order_id,
            subscriber_ref=order.subscriber_ref,
            undo=undo,
            requested_by=order.requested_by,
            adopts=getattr(order, "adopt", False),
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
    waits_until: datetime | None = None
    """The order waits until then before its next step."""
    attempt: int = 1
    started_at: datetime | None = None
    """When the step began and how long it took, where it ran in a group."""
    seconds: float | None = None
