"""Questions to Temporal's Schedules, asked again where no answer comes.

A Schedule is described by a query to its own run, on the server's side. Once in some hundred times the query is lost,
and the caller is left to wait for the 30 seconds that the server gives it; asked again, it is answered at once.
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

__all__ = ["SchedulesAskedAgain"]

# The server itself tries for 5 seconds at the worker that answered last, and then at any.
PATIENCE = timedelta(seconds=7)
TIMES = 4

Answer = TypeVar("Answer")

_UNANSWERED = {RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED}


class SchedulesAskedAgain(Interceptor):
    """For a client. An update is a question first, and the same the second time."""

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
