"""What Temporal leaves unanswered about a Schedule is asked again."""

import uuid
from collections.abc import AsyncIterator

import pytest
from temporalio.client import (
    Client,
    DescribeScheduleInput,
    Interceptor,
    OutboundInterceptor,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleSpec,
    ScheduleUpdate,
    UpdateScheduleInput,
)
from temporalio.service import RPCError, RPCStatusCode

from workflows.asking import TIMES, SchedulesAskedAgain


class Losses(Interceptor):
    """Between client and server: the first `lost` questions come to nothing, as after their time."""

    def __init__(self) -> None:
        self.lost = 0
        self.asked = 0

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Lossy(next, self)

    def meet_one(self) -> None:
        self.asked += 1
        if self.asked <= self.lost:
            raise RPCError("Timeout expired", RPCStatusCode.CANCELLED, b"")


class _Lossy(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, losses: Losses) -> None:
        super().__init__(next)
        self._losses = losses

    async def describe_schedule(self, input: DescribeScheduleInput) -> ScheduleDescription:
        self._losses.meet_one()
        return await super().describe_schedule(input)

    async def update_schedule(self, input: UpdateScheduleInput) -> None:
        self._losses.meet_one()
        await super().update_schedule(input)


@pytest.fixture
def losses() -> Losses:
    return Losses()


@pytest.fixture
async def client(temporal_address: str, losses: Losses) -> Client:
    return await Client.connect(temporal_address, interceptors=[SchedulesAskedAgain(), losses])


@pytest.fixture
async def schedule(client: Client) -> AsyncIterator[ScheduleHandle]:
    name = f"test-{uuid.uuid4().hex}"
    action = ScheduleActionStartWorkflow("Nothing", id=name, task_queue=name)
    handle = await client.create_schedule(name, Schedule(action=action, spec=ScheduleSpec()))
    yield handle
    await handle.delete()


async def test_as_often_as_need_be(schedule: ScheduleHandle, losses: Losses) -> None:
    losses.lost = TIMES - 1
    assert (await schedule.describe()).id == schedule.id
    assert losses.asked == TIMES


async def test_not_for_ever(schedule: ScheduleHandle, losses: Losses) -> None:
    losses.lost = TIMES
    with pytest.raises(RPCError, match="Timeout expired"):
        await schedule.describe()
    assert losses.asked == TIMES


async def test_an_update_too(schedule: ScheduleHandle, losses: Losses) -> None:
    losses.lost = 1
    await schedule.update(lambda found: ScheduleUpdate(found.description.schedule))
    assert losses.asked == 2


async def test_what_is_answered_is_not_asked_again(client: Client, losses: Losses) -> None:
    with pytest.raises(RPCError, match="not found"):
        await client.get_schedule_handle("nobody-made-it").describe()
    assert losses.asked == 1
