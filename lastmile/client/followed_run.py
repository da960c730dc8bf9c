"""Follow a run that works on a pool: say what it does, whenever that differs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError

from lastmile.client.availability import AWAY, PAUSE_SECONDS, retry_unavailable

__all__ = ["follow"]


async def follow(
    handle: WorkflowHandle[Any, Any], ask: Callable[[], Awaitable[str]], *, what: str
) -> AsyncIterator[str]:
    """Yield what the run answers, whenever that differs, until it has ended.

    Args:
        handle: The run.
        ask: Asks the run. A worker answers.
        what: The noun for the run, for the message that no worker answers.
    """
    said = ""
    while (await retry_unavailable(handle.describe)).status is WorkflowExecutionStatus.RUNNING:
        try:
            words = await ask()
        except RPCError as failure:
            if failure.status not in AWAY:
                raise
            words = f"no worker answers; the {what} continues when a worker polls the task queue"
        if words != said:
            yield words
        said = words
        await asyncio.sleep(PAUSE_SECONDS)
