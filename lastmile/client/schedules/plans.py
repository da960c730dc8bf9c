"""The schedules of the maintenance workflows, as data. `manager` makes Temporal Schedules of them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import (
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
)

__all__ = ["SCHEDULES", "Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The schedule of one workflow."""

    name: str
    workflow: str
    note: str
    """The purpose and the times (UTC), for operators who see the Schedule in the Temporal UI."""
    spec: ScheduleSpec
    late: timedelta
    """After an outage of the server, a run still starts if its time was at most this long ago."""
    at_once: bool = False
    """A first run starts when the Schedule is created."""

    @property
    def parts(self) -> dict[str, Any]:
        """The parts that an operator may change. A run is skipped while the run before is still open."""
        policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=self.late)
        return {"spec": self.spec, "policy": policy}


SCHEDULES = (
    Plan(
        "cleanup",
        "StalePrefixCleanup",
        "Daily at 02:00: completes stuck revocations, reports leaks, deletes old records.",
        ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(2)])]),
        late=timedelta(minutes=30),
    ),
    Plan(
        "metrics",
        "Metrics",
        "Every 5 minutes: takes the metrics snapshot that every worker serves on /metrics.",
        ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(minutes=5))]),
        late=timedelta(minutes=1),
        at_once=True,
    ),
    Plan(
        "audit",
        "Audit",
        "Hourly at half past: checks every invariant, and repairs the violations that are safe to repair.",
        ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(0, 23)], minute=[ScheduleRange(30)])]),
        late=timedelta(minutes=10),
    ),
    Plan(
        "resumption",
        "Resumption",
        "Every minute: resumes the lines whose suspension has reached its end.",
        ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(minutes=1))]),
        late=timedelta(seconds=30),
    ),
)
