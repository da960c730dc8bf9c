"""Call the activities of the maintenance workflows."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

__all__ = ["SHOWN", "call"]

SHOWN = 20
"""The number of problems that a result lists; the others are only counted."""

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
    cancellation: workflow.ActivityCancellationType = workflow.ActivityCancellationType.TRY_CANCEL,
) -> Any:
    """Run an activity and return its result. Raise `ActivityError` once the attempts are used up.

    `attempt` is the timeout of one attempt. Ten attempts outlast a database outage of two minutes. `name` distinguishes
    activities of the same type. The next run of the schedule tries again what failed.
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
        cancellation_type=cancellation,
    )
