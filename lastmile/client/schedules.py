"""What runs when, by itself: as data. `lastmile.client.schedule_manager` makes Temporal Schedules of it."""

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
    """One workflow that runs by itself."""

    name: str
    workflow: str
    note: str
    """What it is for, and when it runs, for who sees the Schedule in the Temporal UI. Times are UTC."""
    spec: ScheduleSpec
    late: timedelta
    """How long after its time it still starts, where the server was away; later it waits for the next time."""
    at_once: bool = False
    """It runs once when it is made, too."""

    @property
    def parts(self) -> dict[str, Any]:
        """What a person may change. One run at a time: where the last one still runs, the next is left out."""
        policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=self.late)
        return {"spec": self.spec, "policy": policy}


SCHEDULES = (
    Plan(
        "cleanup",
        "StalePrefixCleanup",
        "Daily at 02:00: finishes revocations that are stuck, reports leaks, deletes what ended long ago.",
        ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(2)])]),
        late=timedelta(minutes=30),
    ),
    Plan(
        "metrics",
        "Metrics",
        "Every 5 minutes: takes the figures that every worker shows on /metrics.",
        ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(minutes=5))]),
        late=timedelta(minutes=1),
        at_once=True,
    ),
    Plan(
        "audit",
        "Audit",
        "Hourly, at half past: checks every promise against the records, and repairs what is safe to repair.",
        ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(0, 23)], minute=[ScheduleRange(30)])]),
        late=timedelta(minutes=10),
    ),
)
