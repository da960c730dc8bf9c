"""Repeat requests to Temporal's Schedules that get no answer.

The server describes a Schedule by a query to the Schedule's own run. About one query in a hundred is lost, and the
caller waits for the server's timeout of 30 seconds. A repeated request is answered at once.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from temporalio.client import (
    DescribeScheduleInput,
    Interceptor,
    OutboundInterceptor,
    ScheduleDescription,
    UpdateScheduleInput,
)
from temporalio.service import RPCError, RPCStatusCode

__all__ = ["ScheduleRetryInterceptor"]

# The server first asks the worker that answered last, for 5 seconds, and then any worker.
PATIENCE = timedelta(seconds=7)
TIMES = 4

Answer = TypeVar("Answer")

_UNANSWERED = {RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED}


class ScheduleRetryInterceptor(Interceptor):
    """A client interceptor that repeats descriptions and updates. An update reads first, and may be repeated."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _AskedAgain(next)


class _AskedAgain(OutboundInterceptor):
    async def describe_schedule(self, input: DescribeScheduleInput) -> ScheduleDescription:
        return await _asked(lambda: self.next.describe_schedule(replace(input, rpc_timeout=PATIENCE)))

    async def update_schedule(self, input: UpdateScheduleInput) -> None:
        await _asked(lambda: self.next.update_schedule(replace(input, rpc_timeout=PATIENCE)))


async def _asked(question: Callable[[], Awaitable[Answer]]) -> Answer:
    for _ in range(TIMES - 1):
        try:
            return await question()
        except RPCError as failure:
            if failure.status not in _UNANSWERED:
                raise
    return await question()
