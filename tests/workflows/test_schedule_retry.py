"""Requests about a Schedule that Temporal does not answer are repeated."""

from typing import Any

import pytest
from temporalio.client import (
    Client,
    DescribeScheduleInput,
    Interceptor,
    OutboundInterceptor,
    ScheduleHandle,
    UpdateScheduleInput,
)
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.schedules.retry import TIMES, ScheduleRetryInterceptor

FOUND: Any = object()


class Losses(Interceptor):
    """Simulates a server that does not answer the first `lost` requests."""

    def __init__(self) -> None:
        self.lost = 0
        self.asked = 0
        self.there = True

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Lossy(next, self)

    def meet_one(self) -> None:
        self.asked += 1
        if self.asked <= self.lost:
            raise RPCError("Timeout expired", RPCStatusCode.CANCELLED, b"")
        if not self.there:
            raise RPCError("schedule not found", RPCStatusCode.NOT_FOUND, b"")


class _Lossy(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, losses: Losses) -> None:
        super().__init__(next)
        self._losses = losses

    async def describe_schedule(self, input: DescribeScheduleInput) -> Any:
        self._losses.meet_one()
        return FOUND

    async def update_schedule(self, input: UpdateScheduleInput) -> None:
        self._losses.meet_one()


@pytest.fixture
def losses() -> Losses:
    return Losses()


@pytest.fixture
async def schedule(losses: Losses) -> ScheduleHandle:
    client = await Client.connect("127.0.0.1:1", lazy=True, interceptors=[ScheduleRetryInterceptor(), losses])
    return client.get_schedule_handle("cleanup")


async def test_describe_is_repeated_until_answered(schedule: ScheduleHandle, losses: Losses) -> None:
    losses.lost = TIMES - 1
    assert await schedule.describe() is FOUND
    assert losses.asked == TIMES


async def test_describe_gives_up_after_all_attempts(schedule: ScheduleHandle, losses: Losses) -> None:
    losses.lost = TIMES
    with pytest.raises(RPCError, match="Timeout expired"):
        await schedule.describe()
    assert losses.asked == TIMES


async def test_update_is_repeated(schedule: ScheduleHandle, losses: Losses) -> None:
    losses.lost = 1
    await schedule.update(lambda _: None)
    assert losses.asked == 2


async def test_answered_request_is_not_repeated(schedule: ScheduleHandle, losses: Losses) -> None:
    losses.there = False
    with pytest.raises(RPCError, match="not found"):
        await schedule.describe()
    assert losses.asked == 1
