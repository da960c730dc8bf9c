"""Call the activities of an order's steps, with timeouts, attempts and retries by the system that they call.

Each step first runs as a local activity, which costs a third of a regular one and suits work on the database. A step
that needs another system declines (`BEYOND_DATABASE`). After that, and after a failure, it runs as a regular activity,
whose attempts an operator can see.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, FailureError, RetryState, is_cancelled_exception

from activities.messages import BEYOND_DATABASE, StepContext
from lastmile.contract.steps import CallKind
from workflows.failure_details import attempt_of, is_outage, retryable, type_of

__all__ = ["Caller"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an attempt may take, and how many attempts there are.

    There is no total time limit: an hour without workers must not roll orders back.
    """

    attempt: timedelta
    attempts: int
    longest_pause: timedelta
    heartbeat: timedelta | None = None


# The attempts outlast a database outage of two minutes. One attempt is longer than every timeout in lastmile.db, and
# than three NetBox timeouts: an allocation can wait for NetBox's lock.
PATIENCE = {
    CallKind.DATABASE: Patience(timedelta(seconds=15), 30, timedelta(seconds=5)),
    CallKind.IPAM: Patience(timedelta(seconds=60), 30, timedelta(seconds=30)),
    CallKind.RADIUS: Patience(timedelta(seconds=120), 10, timedelta(seconds=10)),
    CallKind.DEVICE: Patience(timedelta(minutes=3), 10, timedelta(seconds=30), heartbeat=timedelta(seconds=20)),
}

LOCAL_ATTEMPT = timedelta(seconds=15)
"""The timeout of the one attempt as a local activity."""


class Caller:
    """Calls the activities of one order, one after another."""

    def __init__(self) -> None:
        self._calls = 0
        self._kind = CallKind.DATABASE
        self._local_attempts = 0
        """The attempts of the current activity before its current series of regular attempts."""
        self.reversible = True
        """An IPAM step waits until an outage ends.

        After the pivot and in a rollback it parks instead, so that an operator can skip it.
        """

    async def call(
        self,
        activity: str,
        summary: str,
        kind: CallKind,
        ref: StepContext,
        *content: Any,
        returns: Any = None,
        name: str = "",
        local: bool = True,
    ) -> Any:
        """Run an activity and return its result. Raise its failure once the attempts are used up.

        Args:
            activity: The activity type.
            summary: What the activity does, for the Temporal UI.
            kind: The system that it calls.
            ref: The order that it works for; its first argument.
            content: The other arguments.
            returns: The type of the result.
            name: The beginning of the activity id; default: the activity type.
            local: First try it once as a local activity.
        """
        # Replay compares activity ids and not arguments: a name tells two activities of one type apart.
        self._calls += 1
        self._kind, self._local_attempts = kind, 0
        activity_id = f"{name or activity}-{self._calls}"
        arguments = [ref, *content]
        if local:
            try:
                return await workflow.execute_local_activity(
                    activity,
                    args=arguments,
                    result_type=returns,
                    activity_id=activity_id,
                    summary=summary,
                    start_to_close_timeout=LOCAL_ATTEMPT,
                    retry_policy=RetryPolicy(maximum_attempts=1),
                    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                )
            except FailureError as failure:
                if is_cancelled_exception(failure) or not retryable(failure):
                    raise
                self._local_attempts = 0 if type_of(failure) == BEYOND_DATABASE else 1
        patience = PATIENCE[kind]
        while True:
            try:
                return await workflow.execute_activity(
                    activity,
                    args=arguments,
                    result_type=returns,
                    activity_id=f"{activity_id}-again" if local else activity_id,
                    summary=summary,
                    start_to_close_timeout=patience.attempt,
                    heartbeat_timeout=patience.heartbeat,
                    retry_policy=RetryPolicy(
                        initial_interval=timedelta(milliseconds=200),
                        maximum_interval=patience.longest_pause,
                        maximum_attempts=patience.attempts,
                    ),
                    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                )
            except FailureError as failure:
                waits = kind is CallKind.IPAM and self.reversible and is_outage(failure)
                if waits and workflow.cancellation_reason() is not None:
                    # The attempt that was running when the cancel came has hidden the cancel.
                    raise asyncio.CancelledError from None
                if not (waits and workflow.patched("wait-for-outage")):
                    raise
                self._local_attempts += attempt_of(failure) or 0

    def attempts(self, last: int | None) -> int | None:
        """Return the number of attempts of the last activity; `last` is its last regular attempt."""
        return None if last is None else last + self._local_attempts

    def attempts_failed(self, failure: BaseException) -> int | None:
        """Return the number of attempts before this failure; None: unknown, as after a timeout."""
        last = attempt_of(failure)
        if last is None and isinstance(failure, ActivityError):
            used_up = failure.retry_state == RetryState.MAXIMUM_ATTEMPTS_REACHED
            last = PATIENCE[self._kind].attempts if used_up else None
        return self.attempts(last)
