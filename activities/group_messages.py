"""The messages of the activities that run groups of steps. No I/O: workflows import this module."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from activities.messages import StepReport
from activities.order_record import OrderClosing
from lastmile.contract import OrderResult
from lastmile.contract.orders import LineRequest, Urgency

__all__ = ["GroupReport", "OpenedOrder", "OrderOpening", "StepCall", "StepFailure", "StepGroup"]


class StepCall(BaseModel):
    """One step, or undo, of a group."""

    model_config = ConfigDict(frozen=True)

    step: str
    activity: str
    """The activity type: of the step, or of its undo."""
    content: list[Any] = []
    """The arguments of the activity after its context."""


class StepGroup(BaseModel):
    """Consecutive steps, or undos, for one transaction, and what follows them."""

    model_config = ConfigDict(frozen=True)

    calls: list[StepCall] = []
    asks: bool = False
    """After these steps there is no way back: ask Temporal whether a cancel has come."""
    closing: OrderClosing | None = None
    """Close the order in the same transaction, after all steps. It has the record without these steps."""


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
    wanted: bool | None = None
    """Whether the run goes on without a cancel; None: the group did not ask, or Temporal did not answer."""
    result: OrderResult | None = None
    """The order's result, where it is closed."""


class OrderOpening(BaseModel):
    """The input of `open_order`: the order's type and content."""

    model_config = ConfigDict(frozen=True)

    operation: str
    digest: str
    line: LineRequest | None = None
    """The line that the order asks for. A line that is in service already must be the same."""
    group: StepGroup = StepGroup()
    """The first steps of a new order, in the transaction of the opening."""
    urgency: Urgency = Urgency.NORMAL
    customer_ref: str | None = None
    """The customer that the order gives a line; None: the order names no customer."""
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
