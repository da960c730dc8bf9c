"""What runs by itself is made by the workers, follows their version, and is left alone where a person was at it."""

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
from lastmile.client.schedule_manager import CreateOutcome, ScheduleManager
from lastmile.client.schedules import SCHEDULES, Plan
from lastmile.contract import Cleanup

CLEANUP = SCHEDULES[0]
AT_FOUR = ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(4)])])
AT_FIVE = ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(5)])])
NEVER = ScheduleSpec(calendars=[ScheduleCalendarSpec(year=[ScheduleRange(2099)])])
LATER = replace(CLEANUP, spec=AT_FOUR, late=timedelta(hours=1))
"""What a later version wants."""

Change = Callable[[Schedule], None]


class ByHand:
    """What a person sees and does in the Temporal UI."""

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
async def standing(temporal_client: Client) -> AsyncIterator[ScheduleManager]:
    standing = ScheduleManager(temporal_client, f"test-{uuid.uuid4().hex}")
    yield standing
    for plan in SCHEDULES:
        with suppress(RPCError):
            await temporal_client.get_schedule_handle(standing.id_of(plan.name)).delete()


@pytest.fixture
async def by_hand(temporal_client: Client, standing: ScheduleManager) -> ByHand:
    """Of the cleanup's schedule, which is there."""
    await standing.make(CLEANUP)
    return ByHand(temporal_client, standing.id_of(CLEANUP.name))


def at(spec: ScheduleSpec, schedule: Schedule) -> None:
    schedule.spec = spec


def hours(found: ScheduleDescription) -> list[int]:
    return [one.start for calendar in found.schedule.spec.calendars for one in calendar.hour]


@pytest.mark.parametrize("plan", SCHEDULES, ids=lambda plan: plan.name)
async def test_a_worker_makes_it_once_and_a_later_version_updates_it(standing: ScheduleManager, plan: Plan) -> None:
    later = replace(plan, spec=AT_FOUR, late=timedelta(hours=1))
    made = [await standing.make(one) for one in (plan, plan, later, later, plan)]
    assert made == [
        CreateOutcome.CREATED,
        CreateOutcome.UNCHANGED,
        CreateOutcome.UPDATED,
        CreateOutcome.UNCHANGED,
        CreateOutcome.UPDATED,
    ]


async def test_figures_are_taken_at_once_and_not_again_by_the_next_worker(
    standing: ScheduleManager, temporal_client: Client
) -> None:
    for _ in range(2):
        for plan in SCHEDULES:
            await standing.make(replace(plan, spec=NEVER))  # the time of one may come in the middle of the test
    seen = {plan.name: ByHand(temporal_client, standing.id_of(plan.name)) for plan in SCHEDULES}
    await seen["metrics"].until(lambda found: found.info.num_actions > 0)
    assert {name: (await one.sees()).info.num_actions for name, one in seen.items()} == {
        "cleanup": 0,
        "metrics": 1,
        "audit": 0,
    }


async def test_workers_that_start_together_make_one(standing: ScheduleManager) -> None:
    made = await asyncio.gather(*(standing.make(CLEANUP) for _ in range(4)))
    assert sorted(made) == [CreateOutcome.CREATED, *[CreateOutcome.UNCHANGED] * 3]


async def test_one_run_at_a_time_and_not_much_too_late(standing: ScheduleManager, by_hand: ByHand) -> None:
    found = await by_hand.sees()
    assert found.schedule.policy == SchedulePolicy(
        overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=30)
    )
    assert hours(found) == [2]
    assert found.schedule.state.note == CLEANUP.note


async def test_what_a_person_changed_stays_and_the_rest_is_updated(
    standing: ScheduleManager, by_hand: ByHand, temporal_client: Client
) -> None:
    def change(schedule: Schedule) -> None:
        schedule.spec = AT_FIVE
        assert isinstance(schedule.action, ScheduleActionStartWorkflow)
        schedule.action.args = [Cleanup(revoked_days=30)]

    await by_hand.does(change)
    await by_hand.until(lambda found: hours(found) == [5])  # of the same moment, it would undo the pause
    await by_hand.handle.pause(note="NetBox is being moved")
    await by_hand.until(lambda found: found.schedule.state.paused)

    assert await standing.make(CLEANUP) is CreateOutcome.KEPT
    assert await standing.make(LATER) is CreateOutcome.UPDATED
    found = await by_hand.sees()
    assert hours(found) == [5]
    assert found.schedule.policy.catchup_window == timedelta(hours=1)
    assert (found.schedule.state.paused, found.schedule.state.note) == (True, "NetBox is being moved")
    assert isinstance(found.schedule.action, ScheduleActionStartWorkflow)
    payloads = found.schedule.action.args
    [wanted] = await temporal_client.data_converter.decode(payloads, [Cleanup])
    assert wanted == Cleanup(revoked_days=30)
    assert await standing.make(LATER) is CreateOutcome.KEPT


async def test_what_a_person_changed_back_is_followed_again(standing: ScheduleManager, by_hand: ByHand) -> None:
    for spec in (AT_FIVE, CLEANUP.spec):
        await by_hand.does(partial(at, spec))
    assert await standing.make(LATER) is CreateOutcome.UPDATED
    assert hours(await by_hand.sees()) == [4]


async def test_a_trigger_starts_one_run(standing: ScheduleManager, by_hand: ByHand, temporal_client: Client) -> None:
    assert await standing.trigger("cleanup") == []
    await by_hand.until(lambda found: bool(found.info.running_actions))
    [running] = (await standing.standing(CLEANUP)).running
    assert running.startswith(standing.id_of("cleanup"))
    assert await standing.trigger("cleanup") == [running], "it still runs: no worker is there"
    run = temporal_client.get_workflow_handle(running)
    assert (await run.describe()).workflow_type == "StalePrefixCleanup"
    await run.terminate()


async def test_a_pause_and_a_second_one(standing: ScheduleManager, by_hand: ByHand) -> None:
    assert await standing.pause("cleanup", "ticket 4711")
    assert not await standing.pause("cleanup", "me too")
    paused = await standing.standing(CLEANUP)
    assert (paused.paused, paused.note) == (True, "ticket 4711")
    assert await standing.resume("cleanup")
    assert not await standing.resume("cleanup")
    going = await standing.standing(CLEANUP)
    assert (going.paused, going.note) == (False, CLEANUP.note)


class SameMoment(Interceptor):
    """Of a pause and an update that has read the Schedule before, the update comes second."""

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


async def test_a_pause_holds_against_an_update_of_the_same_moment(
    standing: ScheduleManager, by_hand: ByHand, temporal_client: Client
) -> None:
    moment = SameMoment()
    config = temporal_client.config()
    client = Client(**config | {"interceptors": [*config["interceptors"], moment]})
    task_queue, _, name = standing.id_of("cleanup").rpartition("/")
    pausing = ScheduleManager(client, task_queue).pause(name, "ticket 4711")
    await asyncio.gather(moment.update(by_hand.handle, partial(at, AT_FOUR)), pausing)
    found = await by_hand.sees()
    assert (found.schedule.state.paused, hours(found)) == (True, [4])


@pytest.mark.parametrize(
    "ask",
    [lambda s: s.standing(CLEANUP), lambda s: s.trigger("cleanup"), lambda s: s.resume("cleanup")],
    ids=["standing", "trigger", "resume"],
)
async def test_one_that_is_not_there(
    standing: ScheduleManager, ask: Callable[[ScheduleManager], Awaitable[object]]
) -> None:
    with pytest.raises(UnknownScheduleError, match="is not there: a worker makes it when it starts"):
        await ask(standing)
