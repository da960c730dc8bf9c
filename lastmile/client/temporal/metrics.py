"""Read from Temporal what the metrics snapshot needs: parked runs, Schedules, and renumberings of pools."""

from temporalio.client import Client

from lastmile.client.errors import UnknownScheduleError
from lastmile.client.schedules.manager import ScheduleManager
from lastmile.client.schedules.plans import SCHEDULES, Plan
from lastmile.client.temporal.renumbering_metrics import read_renumbering_metrics
from lastmile.telemetry.snapshot import Sample, Snapshot
from workflows.search_attributes import ATTENTION, TENANT

__all__ = ["read_temporal_metrics"]

# A run that was terminated while it waited keeps the attribute.
WAITING = f"{ATTENTION.name} = true AND ExecutionStatus = 'Running'"
SUCCEEDED = "TemporalScheduledById = '{id}' AND ExecutionStatus = 'Completed'"
LAST_SUCCESS = "lastmile_schedule_last_success_timestamp_seconds"


async def read_temporal_metrics(
    client: Client, task_queue: str, before: Snapshot | None
) -> tuple[dict[str, str], list[Sample]]:
    """Return the tenants of the parked runs by run id, and the metrics of this task queue's Schedules and renumberings.

    Raises `RPCError`. `before` remembers when a schedule last succeeded, where Temporal has deleted that run by now.
    """
    known = (
        {sample.labels["schedule"]: sample for sample in before.samples if sample.name == LAST_SUCCESS}
        if before
        else {}
    )
    manager = ScheduleManager(client, task_queue)
    samples: list[Sample] = []
    for plan in SCHEDULES:
        samples += await _schedule(client, manager, plan, known.get(plan.name))
    samples += await read_renumbering_metrics(client, task_queue)
    return await _waiting(client), samples


async def _waiting(client: Client) -> dict[str, str]:
    """Count the parked runs without reading memos: a worker may lack the key of one."""
    return {run.run_id: run.typed_search_attributes.get(TENANT, "") async for run in client.list_workflows(WAITING)}


async def _schedule(client: Client, manager: ScheduleManager, plan: Plan, known: Sample | None) -> list[Sample]:
    """Return the metrics of a Schedule that does not exist: that it is missing, and its last success."""
    schedule = {"schedule": plan.name}
    try:
        found = await manager.status(plan)
    except UnknownScheduleError:
        samples = [Sample("lastmile_schedule_present", schedule, 0)]
    else:
        samples = [
            Sample("lastmile_schedule_present", schedule, 1),
            Sample("lastmile_schedule_paused", schedule, int(found.paused)),
            Sample("lastmile_schedule_missed", schedule, found.missed),
        ]
    # The run that was closed last comes first.
    succeeded = SUCCEEDED.format(id=manager.id_of(plan.name))
    async for run in client.list_workflows(succeeded, page_size=1, limit=1):
        if run.close_time is not None:
            known = Sample(LAST_SUCCESS, schedule, run.close_time.timestamp())
    return [*samples, known] if known else samples
