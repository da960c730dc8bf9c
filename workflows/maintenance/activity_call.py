"""How the scheduled workflows call their activities, and tell what went wrong."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

__all__ = ["SHOWN", "call"]

SHOWN = 20
"""How many problems a result tells in words; the rest is counted."""

LONGEST_PAUSE = timedelta(seconds=30)
HEARTBEAT = timedelta(seconds=30)


async def call(
    activity: str,
    summary: str,
    *content: Any,
    returns: Any,
    attempt: timedelta,
    attempts: int = 10,
    name: str = "",
) -> Any:
    """An activity's return; raises `ActivityError` once the attempts are used up: the schedule's next run tries again.

    `attempt` is how long one may take; ten outlast a database that is away for two minutes. `name` tells apart
    activities of one type.
    """
    return await workflow.execute_activity(
        activity,
        args=content,
        result_type=returns,
        activity_id=name or None,
        summary=summary,
        start_to_close_timeout=attempt,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=RetryPolicy(maximum_attempts=attempts, maximum_interval=LONGEST_PAUSE),
    )
