"""Calls of Temporal while the server or its workers are away: which failures say so, and how long a caller waits."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client import answer_time

__all__ = [
    "AWAY",
    "PAUSE_SECONDS",
    "START_ATTEMPTS",
    "START_PATIENCE_SECONDS",
    "describe_silence",
    "is_stuck",
    "retry_unavailable",
]

# A run that ends between "already started" and the look at it: start again, a few times.
START_ATTEMPTS = 5
# A start that got no answer may have happened; trying again finds the run that it made.
START_PATIENCE_SECONDS = 60
PAUSE_SECONDS = 1

AWAY = {
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.UNKNOWN,
    RPCStatusCode.FAILED_PRECONDITION,
}
"""The statuses of an RPC while the server is away or restarts, or while no worker answers a query."""

T = TypeVar("T")


def is_stuck(failure: Exception) -> bool:
    """Return whether the failure of a query says that the workflow tasks of the run fail."""
    if isinstance(failure, RPCError):
        return failure.status is RPCStatusCode.FAILED_PRECONDITION and "Workflow Task" in failure.message
    return isinstance(failure, WorkflowQueryFailedError)


def describe_silence(failure: Exception) -> str:
    """Say why a run did not answer a query, which failed with `failure`."""
    if is_stuck(failure):
        return "the run makes no progress, since its workflow tasks fail: its history in the Temporal UI has the reason"
    if isinstance(failure, TimeoutError) or (isinstance(failure, RPCError) and failure.status in AWAY):
        return f"no worker answers within {answer_time.ANSWER_TIME.seconds} s"
    return str(failure).rstrip(".")


async def retry_unavailable(call: Callable[[], Awaitable[T]], patience: float = math.inf) -> T:
    """Repeat the call while the server or its workers are away, for at most `patience` seconds."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await call()
        except RPCError as failure:
            if failure.status not in AWAY or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
