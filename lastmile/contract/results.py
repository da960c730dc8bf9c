"""How an order ended: its status, its steps, what the subscriber has, and what operators decided."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel

from lastmile.contract.addressing import Purpose
from lastmile.contract.orders import Operation

__all__ = [
    "ADDRESS_FIELDS",
    "Choice",
    "Created",
    "OrderResult",
    "ResultStatus",
    "StepOutcome",
    "StepResult",
    "TakenDecision",
]


class ResultStatus(StrEnum):
    """How an order ended."""

    COMPLETED = "completed"
    DEGRADED = "degraded"
    """The order is done, except for a best-effort step, or for a device that has yet to follow: see the warnings."""
    ROLLED_BACK = "rolled_back"
    """Every undo ran: nothing of the order is left."""
    PARTLY_ROLLED_BACK = "partly_rolled_back"
    """An operator skipped an undo: `decisions` names it, and `created` says what it would have removed."""
    ABANDONED = "abandoned"
    """An operator ended the order as it stood: `created` and the steps say what is left."""
    SCHEDULED = "scheduled"
    """The order has not started: a Temporal Schedule holds it until its `not_before`."""


class StepOutcome(StrEnum):
    """How a step ended. A skipped step had nothing to do, or its controller is not configured."""

    DONE = "done"
    SKIPPED = "skipped"
    WARNED = "warned"
    FAILED = "failed"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"
    """The undo failed. An operator has decided about it, or must decide."""


class StepResult(BaseModel):
    """One step of an order and how it ended."""

    step: str
    outcome: StepOutcome | None = None
    """None: the order did not reach the step."""
    reason: str = ""
    attempts: int | None = None
    """None: unknown, as after a timeout."""
    started_at: datetime | None = None
    seconds: float | None = None

    @property
    def warnings(self) -> list[str]:
        """The warning of the order's result; none unless the step has warned."""
        return [f"{self.step}: {self.reason}"] if self.outcome is StepOutcome.WARNED else []


ADDRESS_FIELDS: Mapping[Purpose, str] = {
    Purpose.IPV6_PD: "ipv6_prefix",
    Purpose.IPV6_FRAMED: "ipv6_framed_prefix",
    Purpose.IPV6_ADDRESS: "ipv6_address",
    Purpose.IPV4: "ipv4_address",
}
"""The field of `Created` for the prefix of each purpose."""


class Created(BaseModel):
    """What a subscriber has after its order. A prefix has its length; a single address has none.

    After an order that was rolled back in part: what the skipped undos would have removed.
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
    """The VRF of the addresses. None: the default VRF."""


class Choice(StrEnum):
    """What an operator can decide about a parked step."""

    RETRY = "retry_step"
    SKIP = "skip_step"
    ABANDON = "abandon"


class TakenDecision(BaseModel):
    """A decision of an operator about a parked step, with the failure that the operator saw."""

    choice: Choice
    step: str
    undo: bool = False
    failure: str
    """The failure of the step, or of its undo."""
    by: str
    why: str
    at: datetime

    @property
    def text(self) -> str:
        """The decision in one line, for a person."""
        return f"{'undo of ' if self.undo else ''}{self.step}: {self.choice} by {self.by}: {self.why}"


class OrderResult(BaseModel):
    """How an order ended, and what each step did."""

    operation: Operation
    tenant: str
    order_id: str
    subscriber_ref: str
    status: ResultStatus
    reason: str = ""
    """Why the order was rolled back or abandoned."""
    created: Created = Created()
    """After a deprovision: what was released."""
    steps: list[StepResult] = []
    warnings: list[str] = []
    notes: list[str] = []
    """What the caller should know although nothing failed, for example that a known customer has another name."""
    decisions: list[TakenDecision] = []
    """What operators decided while the run was parked, in order."""
    ended_at: datetime | None = None
    """None: an earlier version recorded the result, without the time."""
    outdated: str = ""
    """The later order that has changed the line since this order ended. Empty: the result still holds."""

    def finished(
        self, last: StepResult, *, facts: Mapping[str, str], notes: Sequence[str], ended_at: datetime
    ) -> "OrderResult":
        """Return the result of an order that is done with this last step."""
        warnings = [*self.warnings, *last.warnings]
        return self.model_copy(
            update={
                "status": ResultStatus.DEGRADED if warnings else ResultStatus.COMPLETED,
                "created": self.created.model_copy(update=dict(facts)),
                "steps": [last if step.step == last.step else step for step in self.steps],
                "warnings": warnings,
                "notes": [*self.notes, *notes],
                "ended_at": ended_at,
            }
        )
