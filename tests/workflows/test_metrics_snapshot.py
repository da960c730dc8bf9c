"""The run that takes a metrics snapshot: its content from Temporal, and its result for operators."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import asyncpg
import pytest
from temporalio.client import Client, ScheduleCalendarSpec, ScheduleRange, ScheduleSpec, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.maintenance.messages import SnapshotReport
from lastmile.client.orders import Lastmile
from lastmile.client.schedules.manager import ScheduleManager
from lastmile.client.schedules.plans import SCHEDULES
from lastmile.db import Database
from lastmile.metrics.snapshot import compute_snapshot, read_newest_snapshot, store_snapshot
from lastmile.settings import Settings
from lastmile.subscribers.tenants import add_tenant
from lastmile.telemetry.snapshot import Sample
from tests.metrics.snapshot_values import Values, values
from tests.support.orders import Orders
from workflows.search_attributes import ATTENTION, TENANT

OLDEST = "lastmile_oldest_open_order_seconds"
PRESENT = "lastmile_schedule_present"
SUCCESS = "lastmile_schedule_last_success_timestamp_seconds"


async def take(client: Client, worker: Worker) -> SnapshotReport:
    return await client.execute_workflow(
        "Metrics", id=f"metrics-{uuid.uuid4()}", task_queue=worker.task_queue, result_type=SnapshotReport
    )


async def shown(database: Database, name: str) -> Values:
    found = await read_newest_snapshot(database)
    assert found is not None
    return values(found.snapshot, name)


@pytest.fixture
async def tenant(database: Database) -> str:
    """Add a tenant of this test alone, since all tests share one Temporal server."""
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    async with database.platform() as platform:
        await add_tenant(platform, tenant, "Of this test")
    return tenant


@pytest.fixture
async def waiting(client: Client, tenant: str) -> AsyncIterator[WorkflowHandle]:
    """Start a run that looks parked."""
    attributes = TypedSearchAttributes([SearchAttributePair(TENANT, tenant), SearchAttributePair(ATTENTION, True)])
    handle = await client.start_workflow(
        "Waiting", id=f"waiting-{tenant}", task_queue="nobody's", search_attributes=attributes
    )
    yield handle
    with suppress(RPCError):  # the test has done it
        await handle.terminate()


async def test_snapshot_run_returns_its_summary(
    lastmile: Lastmile, client: Client, worker: Worker, orders: Orders, database: Database
) -> None:
    await lastmile.execute(orders.provision())
    taken = await take(client, worker)
    assert taken.delegations == {"active": 1}
    assert taken.least_active_percent == {"acme": 100}
    assert taken.least_in_netbox_percent == {}
    assert taken.fullest_pools_percent == {"home": 0, "business": 0, "tiny": 0, "static": 0}
    assert (taken.prefix_leaks, taken.oldest_stuck_seconds, taken.quarantined) == ({}, {}, 0)
    assert (await shown(database, "ipv6_lifecycle_state_total"))["acme", "active"] == 1
    assert await shown(database, "lastmile_snapshot_timestamp_seconds") == {(): taken.taken_at.timestamp()}


async def test_snapshot_counts_parked_runs(
    client: Client,
    worker: Worker,
    database: Database,
    owner: asyncpg.Connection,
    tenant: str,
    waiting: WorkflowHandle,
) -> None:
    await owner.execute(
        """
        INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, created_at)
        VALUES ($1, 'waits', 'provision', 'creates', 'S-1', 'd', $2, 'running', now() - interval '2 hours'),
               ($1, 'stuck', 'provision', 'creates', 'S-2', 'd', 'r', 'running', now() - interval '90 minutes')
        """,
        tenant,
        waiting.first_execution_run_id,
    )

    async def until(number: int) -> SnapshotReport:
        """Take snapshots until one has this number of parked runs: Temporal's visibility is delayed."""
        while True:
            taken = await take(client, worker)
            if taken.attention_runs.get(tenant, 0) == number:
                return taken
            await asyncio.sleep(0.05)

    await until(1)
    found = await shown(database, "lastmile_attention_runs")
    assert found[tenant,] == 1
    assert found["other",] == 0
    assert 5400 <= (await shown(database, OLDEST))[tenant,] < 5460, "a parked run is not stuck"
    await waiting.terminate("nobody needs it")
    await until(0)
    assert (await shown(database, "lastmile_attention_runs"))[tenant,] == 0
    assert 7200 <= (await shown(database, OLDEST))[tenant,] < 7260


NEVER = ScheduleSpec(calendars=[ScheduleCalendarSpec(year=[ScheduleRange(2099)])])


@pytest.fixture
async def schedules(client: Client, settings: Settings) -> AsyncIterator[ScheduleManager]:
    """Create the Schedules as a worker does, without any start by time."""
    manager = ScheduleManager(client, settings.task_queue)
    for plan in SCHEDULES:
        await manager.make(replace(plan, at_once=False, spec=NEVER))
    yield manager
    for plan in SCHEDULES:
        with suppress(RPCError):  # the test has done it
            await client.get_schedule_handle(manager.id_of(plan.name)).delete()


async def test_snapshot_contains_the_state_of_the_schedules(
    client: Client, worker: Worker, database: Database, schedules: ScheduleManager
) -> None:
    await schedules.pause("cleanup", "while we move house")
    await take(client, worker)
    while not any((paused := await shown(database, "lastmile_schedule_paused")).values()):
        await take(client, worker)  # Temporal shows it a moment later
    assert paused == {("cleanup",): 1, ("metrics",): 0, ("audit",): 0, ("resumption",): 0}
    missed = await shown(database, "lastmile_schedule_missed")
    assert missed == {("cleanup",): 0, ("metrics",): 0, ("audit",): 0, ("resumption",): 0}
    assert await shown(database, PRESENT) == {("cleanup",): 1, ("metrics",): 1, ("audit",): 1, ("resumption",): 1}
    assert await shown(database, SUCCESS) == {}

    await schedules.trigger("metrics")
    while not (succeeded := await shown(database, SUCCESS)):
        await take(client, worker)
    runs = [run async for run in client.list_workflows(f"TemporalScheduledById = '{schedules.id_of('metrics')}'")]
    ended = {run.close_time.timestamp() for run in runs if run.close_time}  # there may be several runs
    assert set(succeeded) == {("metrics",)}
    assert succeeded["metrics",] in ended


async def test_snapshot_marks_missing_schedules(client: Client, worker: Worker, database: Database) -> None:
    await take(client, worker)
    assert await shown(database, PRESENT) == {("cleanup",): 0, ("metrics",): 0, ("audit",): 0, ("resumption",): 0}


async def succeeded_once(database: Database) -> None:
    """Store a snapshot with a success of the cleanup whose run Temporal has deleted."""
    before = await compute_snapshot(database)
    success = Sample(SUCCESS, {"schedule": "cleanup"}, 1777816800)
    await store_snapshot(database, replace(before, samples=(*before.samples, success)))


async def test_snapshot_keeps_the_success_of_a_deleted_run(
    client: Client, worker: Worker, database: Database, schedules: ScheduleManager
) -> None:
    await succeeded_once(database)
    await take(client, worker)
    assert await shown(database, SUCCESS) == {("cleanup",): 1777816800}


async def test_snapshot_keeps_the_success_of_a_deleted_schedule(
    client: Client, worker: Worker, database: Database, schedules: ScheduleManager
) -> None:
    await succeeded_once(database)
    await client.get_schedule_handle(schedules.id_of("cleanup")).delete()
    await take(client, worker)
    while (present := await shown(database, PRESENT))["cleanup",]:
        await take(client, worker)  # Temporal shows it a moment later
    assert present == {("cleanup",): 0, ("metrics",): 1, ("audit",): 1, ("resumption",): 1}
    assert await shown(database, "lastmile_schedule_paused") == {("metrics",): 0, ("audit",): 0, ("resumption",): 0}
    assert await shown(database, SUCCESS) == {("cleanup",): 1777816800}
