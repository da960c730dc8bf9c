"""The state of the recurring jobs: their Schedules, and the outcome of the last run of each."""

from dataclasses import dataclass

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.errors import UnknownScheduleError
from lastmile.client.schedules.manager import ScheduleManager, ScheduleStatus
from lastmile.client.schedules.plans import SCHEDULES

__all__ = ["JobStatus", "list_jobs"]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A recurring job."""

    schedule: ScheduleStatus
    last_status: str | None
    """The outcome of the last run, or `running`; None before the first run, and after Temporal's retention period."""


async def list_jobs(client: Client, schedules: ScheduleManager) -> tuple[list[JobStatus], list[str]]:
    """Return the jobs, and a sentence for each job whose Schedule is missing."""
    jobs: list[JobStatus] = []
    missing = []
    for plan in SCHEDULES:
        try:
            schedule = await schedules.status(plan)
        except UnknownScheduleError as failure:
            missing.append(str(failure))
        else:
            jobs.append(JobStatus(schedule, await _run_status(client, schedule.last_run)))
    return jobs, missing


async def _run_status(client: Client, run: str | None) -> str | None:
    if run is None:
        return None
    try:
        found = await client.get_workflow_handle(run).describe()
    except RPCError as failure:
        if failure.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return found.status.name.lower() if found.status else None
