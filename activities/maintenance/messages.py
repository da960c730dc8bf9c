"""The messages between the maintenance workflows and their activities. No I/O: workflows import this module."""

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from lastmile.contract.lines import Reference, TenantId
from lastmile.contract.maintenance import Cursor
from lastmile.contract.orders import ResumeSubscriber

__all__ = [
    "DueOrders",
    "InvariantReport",
    "MaintenanceReport",
    "MaintenanceSearch",
    "RevocationReport",
    "SnapshotReport",
    "Stuck",
]


class MaintenanceSearch(BaseModel):
    """What a maintenance activity looks for, and from where on."""

    model_config = ConfigDict(frozen=True)

    older_than: timedelta = timedelta(0)
    after: Cursor | None = None
    """None: from the beginning."""
    dry_run: bool = False
    """Count, and change nothing."""


class Stuck(BaseModel):
    """A subscriber with revocations that began and have not ended."""

    model_config = ConfigDict(frozen=True)

    tenant: TenantId
    subscriber_ref: Reference


class MaintenanceReport(BaseModel):
    """The work that one attempt had time for."""

    model_config = ConfigDict(frozen=True)

    counts: dict[str, int]
    """What was done, by field of the result."""
    lines: list[str] = []
    """The first findings for an operator, one per line."""
    stuck: list[Stuck] = []
    """The subscribers whose revocations the workflow must finish."""
    after: Cursor | None = None
    """The position from which to go on."""
    more: bool = False
    """There is more to do."""


class RevocationReport(BaseModel):
    """The revocations of one subscriber that were finished."""

    model_config = ConfigDict(frozen=True)

    completed: int
    problems: list[str] = []
    """What is in doubt: a session whose end no NAS confirmed, a record in NetBox."""


class DueOrders(BaseModel):
    """The orders that resume lines whose suspension has reached its end."""

    model_config = ConfigDict(frozen=True)

    orders: list[ResumeSubscriber] = []
    after: Cursor | None = None
    """The position from which to go on; None: there are no more."""


class InvariantReport(BaseModel):
    """One invariant: the violations that are left after the repairs."""

    model_config = ConfigDict(frozen=True)

    violations: int
    repaired: int = 0


class SnapshotReport(BaseModel):
    """A metrics snapshot in short, for an operator who looks at its run. Lists only the worst tenants and pools."""

    model_config = ConfigDict(frozen=True)

    taken_at: datetime
    seconds: float
    """How long the snapshot took."""
    delegations: dict[str, int]
    """By state, of all tenants."""
    prefix_leaks: dict[str, int]
    """By tenant, those that have any. The same holds for the fields below."""
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
