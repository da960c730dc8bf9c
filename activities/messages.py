"""What passes between a workflow and its activities. No I/O: workflows import this."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from ipam.models import Addressing
from lastmile.subscribers.models import Customer, Line, Reference, ServicePlan, TenantId

__all__ = [
    "BEYOND_DATABASE",
    "OUTAGE",
    "Checked",
    "Cursor",
    "Done",
    "Finished",
    "LineRequest",
    "Opened",
    "OrderClosing",
    "OrderOpening",
    "Outcome",
    "Search",
    "SnapshotTaken",
    "StepContext",
    "StepReport",
    "Stuck",
]

OUTAGE = "outage"
"""What a failed activity says of itself beside its attempt, where no order is at fault (`errors.Outage`)."""

BEYOND_DATABASE = "BeyondDatabase"
"""The type of the failure by which a step declines to be a local activity, having done nothing."""


class Outcome(StrEnum):
    """How a step ended. Skipped (nothing to do, nothing configured) is not failed, and neither is done."""

    DONE = "done"
    SKIPPED = "skipped"
    WARNED = "warned"
    FAILED = "failed"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"
    """It happened, or may have, and an operator decided about its undo, or is to."""


class StepContext(BaseModel):
    """Which order a step works for, and in which direction."""

    model_config = ConfigDict(frozen=True)

    tenant: TenantId
    order_id: Reference
    subscriber_ref: Reference
    undo: bool = False
    """The step takes back what this order did, and nothing else."""
    requested_by: str = ""
    """Who sent the order, for the audit log."""


class StepReport(BaseModel):
    """What an activity says it did."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    reason: str = ""
    facts: dict[str, str] = {}
    """What the step made, by the name of its field in the order's result."""
    notes: list[str] = []
    """What the order's caller should know, and what is no fault."""
    attempt: int = 1


class LineRequest(BaseModel):
    """The line that a provision order asks for."""

    model_config = ConfigDict(frozen=True)

    customer: Customer
    plan: ServicePlan
    line: Line
    addressing: Addressing


class OrderOpening(BaseModel):
    """An order at its beginning: what identifies it and its content."""

    model_config = ConfigDict(frozen=True)

    operation: str
    digest: str
    line: LineRequest | None = None
    """Of a provision order: a line that is in service already must be this one."""


class Opened(BaseModel):
    """What was found of the order when it was begun."""

    model_config = ConfigDict(frozen=True)

    result: dict[str, object] | None = None
    """Where it has ended before."""
    outdated: str = ""
    """Which later order has changed the line since; empty where none has."""
    taken_over: bool = False
    """A run that was lost had begun it, or an order that this one supersedes: any step may have happened. It is in
    the order's row, so that it is known as well where an earlier reply was lost."""


class OrderClosing(BaseModel):
    """An order at its end."""

    model_config = ConfigDict(frozen=True)

    status: str
    result: dict[str, Any]
    cancelled: bool = False
    """Rolled back because somebody cancelled it, and not because it failed."""
    failure: str = ""
    """The type of the failure that rolled the order back."""

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """Of the steps that the order reached."""
        return {step["step"]: step["outcome"] for step in self.result.get("steps", ()) if step["outcome"]}


class Cursor(BaseModel):
    """How far a search has come among delegations, the oldest first."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    id: int


class Search(BaseModel):
    """What maintenance looks for, from where on."""

    model_config = ConfigDict(frozen=True)

    older_than: timedelta = timedelta(0)
    after: Cursor | None = None
    """None: from the beginning."""
    dry_run: bool = False
    """Count, and do nothing."""


class Stuck(BaseModel):
    """A subscriber with revocations that began and have not ended."""

    model_config = ConfigDict(frozen=True)

    tenant: TenantId
    subscriber_ref: Reference


class Done(BaseModel):
    """As much of the work as one attempt has time for."""

    model_config = ConfigDict(frozen=True)

    counts: dict[str, int]
    """What was done, by the name of its field in the result."""
    lines: list[str] = []
    """The first of what a person should know, a line each."""
    stuck: list[Stuck] = []
    """Whose revocations are to be finished."""
    after: Cursor | None = None
    """From where to go on."""
    more: bool = False
    """There is more to do."""


class Finished(BaseModel):
    """What became of a subscriber's revocations."""

    model_config = ConfigDict(frozen=True)

    completed: int
    problems: list[str] = []
    """What is in doubt, in words: a session whose end nobody confirmed, a record in NetBox."""


class Checked(BaseModel):
    """One invariant: what breaks it, after what could be repaired was."""

    model_config = ConfigDict(frozen=True)

    violations: int
    repaired: int = 0


class SnapshotTaken(BaseModel):
    """What a snapshot says, in short, for who looks at its run. Of tenants and pools, only those to look at first."""

    model_config = ConfigDict(frozen=True)

    taken_at: datetime
    seconds: float
    """What it took."""
    delegations: dict[str, int]
    """By state, of all tenants."""
    prefix_leaks: dict[str, int]
    """By tenant; as what follows, where there are any."""
    attention_runs: dict[str, int]
    """By tenant."""
    oldest_stuck_seconds: dict[str, int]
    """By state."""
    fullest_pools_percent: dict[str, float]
    quarantined: int
    least_active_percent: dict[str, float]
    """By tenant."""
    least_in_netbox_percent: dict[str, float]
    """By tenant."""
