"""What callers send and get back. An order that these models accept is one that a workflow accepts.

Validation happens here, once, and says everything that is wrong at once, each with its field's path.
"""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from activities.messages import Cursor, LineRequest, Outcome, StepContext
from ipam.models import Addressing
from lastmile.fields.scalars import Moment, Number, TrueOrFalse, any_case
from lastmile.fields.text import PRINTABLE, Text
from lastmile.subscribers.models import Customer, Line, Reference, ServicePlan, TenantId

__all__ = [
    "AnyOrder",
    "AuditResult",
    "Choice",
    "Cleanup",
    "CleanupResult",
    "CleanupState",
    "Created",
    "Decision",
    "DeprovisionSubscriber",
    "Operation",
    "Order",
    "OrderResult",
    "Parked",
    "Progress",
    "ProvisionSubscriber",
    "ResultStatus",
    "RunStatus",
    "StepOutcome",
    "TakenDecision",
    "Urgency",
    "schedule_id",
    "workflow_id",
]


class Operation(StrEnum):
    PROVISION = "provision"
    DEPROVISION = "deprovision"


def workflow_id(tenant: str, subscriber_ref: str) -> str:
    """One id for every operation on a subscriber, so that Temporal lets only one of them run at a time."""
    return f"subscriber/{tenant}/{subscriber_ref}"


def schedule_id(tenant: str, order_id: str) -> str:
    """The id of the Temporal Schedule that holds an order for a later date, and of the run that then starts it."""
    return f"order/{tenant}/{order_id}"


class Urgency(StrEnum):
    """Which of the waiting orders goes first. Within one level tenants take turns."""

    URGENT = "urgent"
    """A technician is waiting at the door."""
    NORMAL = "normal"
    BULK = "bulk"
    """An import, which everything else may pass."""


NOT_CONTENT = {"requested_by", "not_before", "urgency"}
"""How and when an order travels, not what it asks for: the same order with others of these is the same order."""


class Order(BaseModel):
    """What every order has."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    operation: ClassVar[Operation]

    tenant: TenantId
    order_id: Reference
    """The caller's idempotency key: the same order twice gives the same result."""
    subscriber_ref: Reference
    requested_by: Annotated[str, Field(strict=True, max_length=100), PRINTABLE] = ""
    """Who sends it, for the audit log: a system or a person."""
    not_before: Moment | None = None
    """When to begin; None: now. With its time zone."""
    urgency: Annotated[Urgency, BeforeValidator(any_case)] = Urgency.NORMAL

    @property
    def workflow_id(self) -> str:
        return workflow_id(self.tenant, self.subscriber_ref)

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal: the same for the same order, however it was written."""
        # Without defaults: a field that a later version adds must not turn the orders of this one into others.
        content = self.model_dump_json(exclude_defaults=True, exclude=NOT_CONTENT)
        return hashlib.sha256(f"{self.operation}:{content}".encode()).hexdigest()

    @property
    def requested_line(self) -> LineRequest | None:
        """The line that the order asks for; None where it asks for none."""
        return None

    def ref(self, *, undo: bool = False) -> StepContext:
        """What a step needs to know whom it works for."""
        return StepContext(
            tenant=self.tenant,
            order_id=self.order_id,
            subscriber_ref=self.subscriber_ref,
            undo=undo,
            requested_by=self.requested_by,
        )


class ProvisionSubscriber(Order):
    """Turn an order into a working line."""

    operation = Operation.PROVISION

    customer: Customer
    plan: ServicePlan
    line: Line
    addressing: Addressing = Addressing()

    @property
    def requested_line(self) -> LineRequest:
        return LineRequest(customer=self.customer, plan=self.plan, line=self.line, addressing=self.addressing)


class DeprovisionSubscriber(Order):
    """Take a line down and give back what it held."""

    operation = Operation.DEPROVISION

    reason: Annotated[str, Field(strict=True, min_length=1, max_length=500), PRINTABLE]
    """Why, for the history: no personal data."""


AnyOrder = ProvisionSubscriber | DeprovisionSubscriber


class ResultStatus(StrEnum):
    """How an order ended."""

    COMPLETED = "completed"
    DEGRADED = "degraded"
    """The line works, or is down, but a best-effort step did not happen: see the warnings."""
    ROLLED_BACK = "rolled_back"
    """Every undo ran: nothing of the order is left."""
    PARTLY_ROLLED_BACK = "partly_rolled_back"
    """An operator skipped an undo: `decisions` name it, and `created` tells what it would have removed."""
    ABANDONED = "abandoned"
    """An operator ended the order as it stood: `created` and the steps tell what is left."""
    SCHEDULED = "scheduled"
    """It has not begun: a Temporal Schedule holds it until its `not_before`."""


class RunStatus(StrEnum):
    """What a run is doing."""

    RUNNING = "running"
    ROLLING_BACK = "rolling_back"
    PARKED = "parked"
    """Waiting for an operator's `retry_step`, `skip_step` or `abandon`."""
    ENDED = "ended"


class Choice(StrEnum):
    """What an operator can decide about a parked step."""

    RETRY = "retry_step"
    SKIP = "skip_step"
    ABANDON = "abandon"


class StepOutcome(BaseModel):
    """What became of one step."""

    step: str
    outcome: Outcome | None = None
    """None: not reached."""
    reason: str = ""
    attempts: int | None = None
    """None: not known, as after a timeout."""
    started_at: datetime | None = None
    seconds: float | None = None


class Created(BaseModel):
    """What a subscriber has after its order; prefixes with their length, single addresses without.

    After an order that was taken back in part: what the undos that did not happen would have removed.
    """

    customer_id: str | None = None
    subscriber_id: str | None = None
    network_profile_id: str | None = None
    billing_service_id: str | None = None
    radius_username: str | None = None
    ipv6_prefix: str | None = None
    ipv6_framed_prefix: str | None = None
    ipv6_address: str | None = None
    ipv4_address: str | None = None
    vrf: str | None = None
    """The VRF of its addresses. None: the default VRF."""


class Decision(BaseModel):
    """An operator's decision about a parked step."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    by: Annotated[str, Field(strict=True, min_length=1, max_length=100), PRINTABLE]
    why: Annotated[str, Field(strict=True, min_length=1, max_length=500), PRINTABLE]
    step: Text | None = None
    """The parked step that is meant; None: the step that is parked now."""


class Parked(BaseModel):
    """What a run waits for an operator with."""

    step: str
    undo: bool = False
    """The step's undo failed, not the step itself."""
    failure: str
    attempts: int | None = None
    """How often it was tried, with the tries that operators asked for; None: not known."""
    since: datetime
    """When it failed for the first time; a retry that fails leaves this as it is."""

    @property
    def what(self) -> str:
        """What failed, for a person."""
        return f"undo of {self.step}" if self.undo else self.step


class TakenDecision(BaseModel):
    """A decision that an operator took, and what it was about. A program can tell from it what was vouched for."""

    choice: Choice
    step: str
    undo: bool = False
    failure: str
    """What the step, or its undo, had failed with."""
    by: str
    why: str
    at: datetime

    @property
    def words(self) -> str:
        """For a person."""
        return f"{'undo of ' if self.undo else ''}{self.step}: {self.choice} by {self.by}: {self.why}"


class OrderResult(BaseModel):
    """How an order ended, and what each step did."""

    operation: Operation
    tenant: str
    order_id: str
    subscriber_ref: str
    status: ResultStatus
    reason: str = ""
    """Why it was rolled back or abandoned."""
    created: Created = Created()
    """After a deprovision: what was given back."""
    steps: list[StepOutcome] = []
    warnings: list[str] = []
    notes: list[str] = []
    """What the caller should know, and what is no fault: a known customer has another name, for example."""
    decisions: list[TakenDecision] = []
    """What operators decided while the run was parked, in order."""
    ended_at: datetime | None = None
    """None: recorded by a version that did not say."""
    outdated: str = ""
    """Which later order has changed the line since the order ended; empty while the result is how things stand."""


class Progress(BaseModel):
    """What the `progress` query answers."""

    operation: Operation
    order_id: str
    status: RunStatus
    step: str | None = None
    attention: str = ""
    """What an operator is asked to decide; empty where nothing waits."""
    parked: Parked | None = None
    """The same, for programs."""
    steps: list[StepOutcome] = []
    result: OrderResult | None = None
    """Once the run has ended."""


class CleanupResult(BaseModel):
    """What the daily cleanup did; after a dry run, what it would do."""

    revoked_deleted: int = 0
    allocated_stale: int = 0
    revoking_stuck: int = 0
    """Found; `revoking_completed` of them were completed."""
    revoking_completed: int = 0
    trail_forgotten: int = 0
    events_forgotten: int = 0
    netbox_removed: int = 0
    errors: int = 0
    """What could not be done, each for itself; the next run tries it again."""
    problems: list[str] = []
    """The first of the errors, in words."""
    notes: list[str] = []
    """The first leaks, each with its subscriber and order, and the first revocations that were left as they are."""
    dry_run: bool = False


class CleanupState(BaseModel):
    """What a run of the cleanup hands to the one that continues it."""

    part: int = 0
    after: Cursor | None = None
    result: CleanupResult = CleanupResult()
    failed: list[str] = []
    """Parts that were not done."""
    lines: list[str] = []
    """What a person should know."""


class Cleanup(BaseModel):
    """What the daily cleanup is started with; by hand with other limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revoked_days: Annotated[Number, Field(ge=0, le=36_500)] = 90
    """Delegations that were released longer ago are deleted; their events are kept for the audit period."""
    allocated_hours: Annotated[Number, Field(ge=0, le=876_000)] = 24
    """Delegations that have been allocated for longer, and are not active, are reported as leaks."""
    revoking_hours: Annotated[Number, Field(ge=0, le=876_000)] = 1
    """Revocations that began longer ago and have not ended are completed."""
    dry_run: TrueOrFalse = False
    """Count what would be done, and do nothing."""
    so_far: CleanupState | None = None
    """Of a run that continues another; nobody else sets it."""


class AuditResult(BaseModel):
    """What the hourly audit found and did."""

    violations: dict[str, int] = {}
    """By invariant, those that were left; an invariant without any is not named."""
    repaired: int = 0
    disconnects_retried: int = 0
    disconnects_confirmed: int = 0
    errors: int = 0
    problems: list[str] = []
    """The first of the errors, in words."""
