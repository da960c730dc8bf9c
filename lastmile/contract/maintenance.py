"""Input and results of the scheduled maintenance: the cleanup and the audit."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lastmile.fields.scalars import Number, TrueOrFalse

__all__ = ["AuditResult", "Cleanup", "CleanupResult", "CleanupState", "Cursor", "ResumptionResult"]


class CleanupResult(BaseModel):
    """What the daily cleanup did; after a dry run, what it would do."""

    revoked_deleted: int = 0
    allocated_stale: int = 0
    revoking_stuck: int = 0
    """The number found. `revoking_completed` counts those that the cleanup completed."""
    revoking_completed: int = 0
    audit_entries_purged: int = 0
    events_purged: int = 0
    netbox_removed: int = 0
    errors: int = 0
    """The number of failures. The next run tries the work again."""
    problems: list[str] = []
    """The first of the errors, as text."""
    notes: list[str] = []
    """The first leaks, each with its subscriber and order, and the first revocations that the cleanup left alone."""
    dry_run: bool = False


class Cursor(BaseModel):
    """The position of a search among delegations, the oldest first."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    id: int


class CleanupState(BaseModel):
    """The state that a run of the cleanup passes to the run that continues it."""

    part: int = 0
    after: Cursor | None = None
    result: CleanupResult = CleanupResult()
    failed: list[str] = []
    """The parts that failed."""
    lines: list[str] = []
    """What an operator should know."""


class Cleanup(BaseModel):
    """The limits of a cleanup run. The schedule uses the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revoked_days: Annotated[Number, Field(ge=0, le=36_500)] = 90
    """Delete delegations that were released longer ago. Their events are kept for the audit period."""
    allocated_hours: Annotated[Number, Field(ge=0, le=876_000)] = 24
    """Report delegations that have been allocated for longer and are not active: they are leaks."""
    revoking_hours: Annotated[Number, Field(ge=0, le=876_000)] = 1
    """Complete revocations that began longer ago and have not ended."""
    dry_run: TrueOrFalse = False
    """Count what the cleanup would do, and change nothing."""
    so_far: CleanupState | None = None
    """The state of the run that this run continues. Only the workflow sets it."""


class AuditResult(BaseModel):
    """What the hourly audit found and did."""

    violations: dict[str, int] = {}
    """The violations that are left, by invariant. An invariant without any is omitted."""
    repaired: int = 0
    disconnects_retried: int = 0
    disconnects_confirmed: int = 0
    errors: int = 0
    problems: list[str] = []
    """The first of the errors, as text."""


class ResumptionResult(BaseModel):
    """The resume orders that a run has started for suspensions whose end has passed."""

    started: int
    """The resume orders that the run has started."""
    busy: int
    """Lines with a running operation, which the next run tries again."""
