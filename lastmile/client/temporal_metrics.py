"""What Temporal knows for a snapshot of the figures: runs that wait for a person, and the schedules."""

from temporalio.client import Client

from lastmile.client.errors import UnknownScheduleError
from lastmile.client.schedule_manager import ScheduleManager
from lastmile.client.schedules import SCHEDULES, Plan
from lastmile.telemetry.snapshot import Sample, Snapshot
from workflows.search_attributes import ATTENTION, TENANT

__all__ = ["temporal_figures"]

# A run that was terminated while it waited keeps the attribute.
WAITING = f"{ATTENTION.name} = true AND ExecutionStatus = 'Running'"
SUCCEEDED = "TemporalScheduledById = '{id}' AND ExecutionStatus = 'Completed'"
LAST_SUCCESS = "lastmile_schedule_last_success_timestamp_seconds"


async def temporal_figures(
    client: Client, task_queue: str, before: Snapshot | None
) -> tuple[dict[str, str], list[Sample]]:
    """The tenants of the runs that wait, by run id; and figures of the schedules of the workers on this task queue.

    Raises `RPCError`. `before` remembers when a schedule last succeeded, where Temporal has deleted that run by now.
    """
    known = (
        {sample.labels["schedule"]: sample for sample in before.samples if sample.name == LAST_SUCCESS}
        if before
        else {}
    )
    standing = ScheduleManager(client, task_queue)
    samples: list[Sample] = []
    for plan in SCHEDULES:
        samples += await _schedule(client, standing, plan, known.get(plan.name))
    return await _waiting(client), samples


async def _waiting(client: Client) -> dict[str, str]:
    """Without their memos: a worker that lacks the key of one counts it all the same."""
    return {run.run_id: run.typed_search_attributes.get(TENANT, "") async for run in client.list_workflows(WAITING)}


async def _schedule(client: Client, standing: ScheduleManager, plan: Plan, known: Sample | None) -> list[Sample]:
    """Where nobody has made the schedule, or somebody has deleted it: that, and when it last succeeded."""
    schedule = {"schedule": plan.name}
    try:
        found = await standing.standing(plan)
    except UnknownScheduleError:
        samples = [Sample("lastmile_schedule_present", schedule, 0)]
    else:
        samples = [
            Sample("lastmile_schedule_present", schedule, 1),
            Sample("lastmile_schedule_paused", schedule, int(found.paused)),
            Sample("lastmile_schedule_missed", schedule, found.missed),
        ]
    # The run that was closed last comes first.
    succeeded = SUCCEEDED.format(id=standing.id_of(plan.name))
    async for run in client.list_workflows(succeeded, page_size=1, limit=1):
        if run.close_time is not None:
            known = Sample(LAST_SUCCESS, schedule, run.close_time.timestamp())
    return [*samples, known] if known else samples
