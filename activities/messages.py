"""The messages between the workflow of an order and its activities. No I/O: workflows import this module."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from lastmile.contract.lines import Reference, TenantId
from lastmile.contract.orders import LineRequest, Order
from lastmile.contract.results import StepOutcome

__all__ = [
    "BEYOND_DATABASE",
    "CANCEL_REQUESTED",
    "OUTAGE",
    "BegunRollback",
    "GroupReport",
    "OpenedOrder",
    "OrderClosing",
    "OrderOpening",
    "StepCall",
    "StepContext",
    "StepFailure",
    "StepReport",
]

OUTAGE = "outage"
"""A detail of a failed activity: an `OutageError` was the cause, so the order is not at fault."""

BEYOND_DATABASE = "BeyondDatabase"
"""The failure type of a step that declines to run in a group."""

CANCEL_REQUESTED = "CancelRequested"
"""The failure type of a closing that has found a cancel, which the run has not seen yet. Nothing was done."""


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


class StepCall(BaseModel):
    """One step, or undo, of a group."""

    model_config = ConfigDict(frozen=True)

    activity: str
    content: list[Any] = []
    """The arguments of the activity after its context."""


class StepFailure(BaseModel):
    """Why a step of a group failed, or declined to run in it."""

    model_config = ConfigDict(frozen=True)

    type: str
    message: str = ""
    final: bool = False
    """A retry cannot help."""


class GroupReport(BaseModel):
    """What a group of steps returns. The steps that it did not reach have done nothing."""

    model_config = ConfigDict(frozen=True)

    steps: list[StepReport] = []
    """The reports of the steps that were done, in order."""
    failure: StepFailure | None = None
    """The failure of the next step; None where all steps were done."""


class OrderOpening(BaseModel):
    """The input of `open_order`: the order's type and content."""

    model_config = ConfigDict(frozen=True)

    operation: str
    digest: str
    line: LineRequest | None = None
    """The line that the order asks for. A line that is in service already must be the same."""
    steps: list[StepCall] = []
    """The first steps of a new order, in the transaction of the opening."""
    run_started_at: datetime | None = None
    """When Temporal started the run. An opening by an older run than another order's is refused."""


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
    group: GroupReport | None = None
    """The first steps; None where they did not run, since the order has ended before or was taken over."""


class BegunRollback(BaseModel):
    """The result of `begin_rollback`."""

    model_config = ConfigDict(frozen=True)

    ended: dict[str, object] | None = None
    """The order's result, where the order is done after all: the reply of its closing was lost."""
    group: GroupReport | None = None
    """The first undos; None where the order is done."""


class OrderClosing(BaseModel):
    """The input of `close_order`: how the order ended."""

    model_config = ConfigDict(frozen=True)

    status: str
    result: dict[str, Any]
    cancelled: bool = False
    """The order was rolled back because its caller cancelled it."""
    failure: str = ""
    """The type of the failure that rolled the order back."""
    revocable: bool = False
    """A cancel that comes before the last step and the closing is still followed."""

    @property
    def outcomes(self) -> dict[str, StepOutcome]:
        """The outcomes of the steps that the order reached."""
        return {step["step"]: step["outcome"] for step in self.result.get("steps", ()) if step["outcome"]}
