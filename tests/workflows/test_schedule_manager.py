"""The Schedules of maintenance: workers create and update them, and keep what an operator changed."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    PauseScheduleInput,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError

from lastmile.client.errors import UnknownScheduleError
from lastmile.client.schedules.manager import CreateOutcome, ScheduleManager
from lastmile.client.schedules.plans import SCHEDULES, Plan
from lastmile.contract import Cleanup

CLEANUP = SCHEDULES[0]
AT_FOUR = ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(4)])])
AT_FIVE = ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(5)])])
NEVER = ScheduleSpec(calendars=[ScheduleCalendarSpec(year=[ScheduleRange(2099)])])
LATER = replace(CLEANUP, spec=AT_FOUR, late=timedelta(hours=1))
"""The schedule of a later version."""

Change = Callable[[Schedule], None]


class Operator:
    """An operator in the Temporal UI."""

    def __init__(self, client: Client, schedule: str) -> None:
        self.handle = client.get_schedule_handle(schedule)

    async def sees(self) -> ScheduleDescription:
        return await self.handle.describe()

    async def until(self, shown: Callable[[ScheduleDescription], bool]) -> ScheduleDescription:
        while True:
            found = await self.sees()
            if shown(found):
                return found
            await asyncio.sleep(0.05)  # a Schedule cannot be waited for

    async def does(self, change: Change) -> None:
        def changed(found: ScheduleUpdateInput) -> ScheduleUpdate:
            change(found.description.schedule)
            return ScheduleUpdate(found.description.schedule)

        await self.handle.update(changed)


@pytest.fixture
async def manager(temporal_client: Client) -> AsyncIterator[ScheduleManager]:
    manager = ScheduleManager(temporal_client, f"test-{uuid.uuid4().hex}")
    yield manager
    for plan in SCHEDULES:
        with suppress(RPCError):
            await temporal_client.get_schedule_handle(manager.id_of(plan.name)).delete()


@pytest.fixture
async def operator(temporal_client: Client, manager: ScheduleManager) -> Operator:
    """Return an operator who works on the existing cleanup schedule."""
    await manager.make(CLEANUP)
    return Operator(temporal_client, manager.id_of(CLEANUP.name))


def at(spec: ScheduleSpec, schedule: Schedule) -> None:
    schedule.spec = spec


def hours(found: ScheduleDescription) -> list[int]:
    return [one.start for calendar in found.schedule.spec.calendars for one in calendar.hour]


@pytest.mark.parametrize("plan", SCHEDULES, ids=lambda plan: plan.name)
async def test_make_creates_once_and_updates_for_a_later_version(manager: ScheduleManager, plan: Plan) -> None:
    later = replace(plan, spec=AT_FOUR, late=timedelta(hours=1))
    made = [await manager.make(one) for one in (plan, plan, later, later, plan)]
    assert made == [
        CreateOutcome.CREATED,
        CreateOutcome.UNCHANGED,
        CreateOutcome.UPDATED,
        CreateOutcome.UNCHANGED,
        CreateOutcome.UPDATED,
    ]


async def test_metrics_schedule_runs_at_once_and_only_once(manager: ScheduleManager, temporal_client: Client) -> None:
    for _ in range(2):
        for plan in SCHEDULES:
            await manager.make(replace(plan, spec=NEVER))  # a start during the test would count
    seen = {plan.name: Operator(temporal_client, manager.id_of(plan.name)) for plan in SCHEDULES}
    await seen["metrics"].until(lambda found: found.info.num_actions > 0)
    assert {name: (await one.sees()).info.num_actions for name, one in seen.items()} == {
        "cleanup": 0,
        "metrics": 1,
        "audit": 0,
        "resumption": 0,
    }


async def test_concurrent_workers_make_one_schedule(manager: ScheduleManager) -> None:
    made = await asyncio.gather(*(manager.make(CLEANUP) for _ in range(4)))
    assert sorted(made) == [CreateOutcome.CREATED, *[CreateOutcome.UNCHANGED] * 3]


async def test_schedule_skips_overlaps_and_limits_the_catchup(manager: ScheduleManager, operator: Operator) -> None:
    found = await operator.sees()
    assert found.schedule.policy == SchedulePolicy(
        overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=30)
    )
    assert hours(found) == [2]
    assert found.schedule.state.note == CLEANUP.note


async def test_update_keeps_the_parts_that_an_operator_changed(
    manager: ScheduleManager, operator: Operator, temporal_client: Client
) -> None:
    def change(schedule: Schedule) -> None:
        schedule.spec = AT_FIVE
        assert isinstance(schedule.action, ScheduleActionStartWorkflow)
        schedule.action.args = [Cleanup(revoked_days=30)]

    await operator.does(change)
    await operator.until(lambda found: hours(found) == [5])  # a concurrent update would undo the pause
    await operator.handle.pause(note="NetBox is being moved")
    await operator.until(lambda found: found.schedule.state.paused)

    assert await manager.make(CLEANUP) is CreateOutcome.KEPT
    assert await manager.make(LATER) is CreateOutcome.UPDATED
    found = await operator.sees()
    assert hours(found) == [5]
    assert found.schedule.policy.catchup_window == timedelta(hours=1)
    assert (found.schedule.state.paused, found.schedule.state.note) == (True, "NetBox is being moved")
    assert isinstance(found.schedule.action, ScheduleActionStartWorkflow)
    payloads = found.schedule.action.args
    [wanted] = await temporal_client.data_converter.decode(payloads, [Cleanup])
    assert wanted == Cleanup(revoked_days=30)
    assert await manager.make(LATER) is CreateOutcome.KEPT


async def test_update_after_an_operator_reverted_a_change_applies(manager: ScheduleManager, operator: Operator) -> None:
    for spec in (AT_FIVE, CLEANUP.spec):
        await operator.does(partial(at, spec))
    assert await manager.make(LATER) is CreateOutcome.UPDATED
    assert hours(await operator.sees()) == [4]


async def test_trigger_starts_one_run(manager: ScheduleManager, operator: Operator, temporal_client: Client) -> None:
    assert await manager.trigger("cleanup") == []
    await operator.until(lambda found: bool(found.info.running_actions))
    [running] = (await manager.status(CLEANUP)).running
    assert running.startswith(manager.id_of("cleanup"))
    assert await manager.trigger("cleanup") == [running], "the run is open, since there is no worker"
    run = temporal_client.get_workflow_handle(running)
    assert (await run.describe()).workflow_type == "StalePrefixCleanup"
    await run.terminate()


async def test_second_pause_changes_nothing(manager: ScheduleManager, operator: Operator) -> None:
    assert await manager.pause("cleanup", "ticket 4711")
    assert not await manager.pause("cleanup", "me too")
    paused = await manager.status(CLEANUP)
    assert (paused.paused, paused.note) == (True, "ticket 4711")
    assert await manager.resume("cleanup")
    assert not await manager.resume("cleanup")
    going = await manager.status(CLEANUP)
    assert (going.paused, going.note) == (False, CLEANUP.note)


class SameMoment(Interceptor):
    """Orders a pause before an update that has read the Schedule before the pause."""

    def __init__(self) -> None:
        self.has_read, self.paused, self.updated = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _PausesFirst(next, self)

    async def update(self, handle: ScheduleHandle, change: Change) -> None:
        async def changed(found: ScheduleUpdateInput) -> ScheduleUpdate:
            self.has_read.set()
            await self.paused.wait()
            change(found.description.schedule)
            return ScheduleUpdate(found.description.schedule)

        await handle.update(changed)
        self.updated.set()


class _PausesFirst(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, moment: SameMoment) -> None:
        super().__init__(next)
        self._moment = moment

    async def pause_schedule(self, input: PauseScheduleInput) -> None:
        await self._moment.has_read.wait()
        await super().pause_schedule(input)
        self._moment.paused.set()
        await self._moment.updated.wait()


async def test_pause_beside_an_update_is_kept(
    manager: ScheduleManager, operator: Operator, temporal_client: Client
) -> None:
    moment = SameMoment()
    config = temporal_client.config()
    client = Client(**config | {"interceptors": [*config["interceptors"], moment]})
    task_queue, _, name = manager.id_of("cleanup").rpartition("/")
    pausing = ScheduleManager(client, task_queue).pause(name, "ticket 4711")
    await asyncio.gather(moment.update(operator.handle, partial(at, AT_FOUR)), pausing)
    found = await operator.sees()
    assert (found.schedule.state.paused, hours(found)) == (True, [4])


@pytest.mark.parametrize(
    "ask",
    [lambda s: s.status(CLEANUP), lambda s: s.trigger("cleanup"), lambda s: s.resume("cleanup")],
    ids=["status", "trigger", "resume"],
)
async def test_missing_schedule_is_reported(
    manager: ScheduleManager, ask: Callable[[ScheduleManager], Awaitable[object]]
) -> None:
    with pytest.raises(UnknownScheduleError, match="does not exist: a worker creates it at its start"):
        await ask(manager)
