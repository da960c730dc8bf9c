"""What Temporal knows for a snapshot of the figures: runs that wait for a person, and the schedules."""

import asyncio
from collections.abc import Sequence

from temporalio.client import Client

from telemetry.snapshot import Sample, Snapshot
from workflows.attributes import ATTENTION, TENANT
from workflows.refusals import NoSchedule
from workflows.schedules import SCHEDULES, Plan
from workflows.standing import StandingSchedules

__all__ = ["temporal_figures"]

# A run that was terminated while it waited keeps the attribute.
WAITING = f"{ATTENTION.name} = true AND ExecutionStatus = 'Running'"
SUCCEEDED = "TemporalScheduledById = '{id}' AND ExecutionStatus = 'Completed'"
LAST_SUCCESS = "lastmile_schedule_last_success_timestamp_seconds"
AT_ONCE = 8


async def temporal_figures(
    client: Client, task_queue: str, tenants: Sequence[str], before: Snapshot | None
) -> list[Sample]:
    """Of these tenants, and of the schedules of the workers on this task queue. Raises `RPCError`.

    `before` remembers when a schedule last succeeded, where Temporal has deleted that run by now.
    """
    known = (
        {sample.labels["schedule"]: sample for sample in before.samples if sample.name == LAST_SUCCESS}
        if before
        else {}
    )
    samples = await _attention(client, tenants)
    standing = StandingSchedules(client, task_queue)
    for plan in SCHEDULES:
        samples += await _schedule(client, standing, plan, known.get(plan.name))
    return samples


async def _attention(client: Client, tenants: Sequence[str]) -> list[Sample]:
    """By tenant; in one query where nothing waits, as nearly always: Temporal groups by nothing but the status."""
    turn = asyncio.Semaphore(AT_ONCE)
    total = (await client.count_workflows(WAITING)).count

    async def waiting(tenant: str) -> Sample:
        async with turn:
            query = f"{WAITING} AND {TENANT.name} = '{tenant}'"
            number = (await client.count_workflows(query)).count if total else 0
        return Sample("lastmile_attention_runs", {"tenant": tenant}, number)

    return list(await asyncio.gather(*map(waiting, tenants)))


async def _schedule(client: Client, standing: StandingSchedules, plan: Plan, known: Sample | None) -> list[Sample]:
    """None where nobody has made the schedule."""
    try:
        found = await standing.standing(plan)
    except NoSchedule:
        return []
    schedule = {"schedule": plan.name}
    samples = [
        Sample("lastmile_schedule_paused", schedule, int(found.paused)),
        Sample("lastmile_schedule_missed", schedule, found.missed),
    ]
    # The run that was closed last comes first.
    async for run in client.list_workflows(SUCCEEDED.format(id=found.id), page_size=1, limit=1):
        if run.close_time is not None:
            known = Sample(LAST_SUCCESS, schedule, run.close_time.timestamp())
    return [*samples, known] if known else samples
