"""The step that the current task runs: an activity of its own, or one of a group in a shared transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio import activity

from lastmile.db import TenantConnection

__all__ = ["GroupedStep", "activity_type", "began_at", "grouped_step", "in_group"]


@dataclass(frozen=True, slots=True)
class GroupedStep:
    """A step that runs in a group."""

    activity: str
    connection: TenantConnection
    """The connection of the group's transaction, which has passed the order's fence."""
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))


_current: ContextVar[GroupedStep | None] = ContextVar("lastmile_grouped_step", default=None)


def grouped_step() -> GroupedStep | None:
    """Return the current step where it runs in a group; else None."""
    return _current.get()


@contextmanager
def in_group(step: GroupedStep) -> Iterator[None]:
    """Make `step` the current step of this task."""
    token = _current.set(step)
    try:
        yield
    finally:
        _current.reset(token)


def activity_type() -> str:
    """Return the activity type of the current step, also where it runs in a group."""
    step = _current.get()
    return activity.info().activity_type if step is None else step.activity


def began_at() -> datetime:
    """Return when the workflow scheduled the current step; of a step in a group, when it began."""
    step = _current.get()
    return activity.info().scheduled_time if step is None else step.began_at
