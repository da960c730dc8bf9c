"""Call the activities of an order, with timeouts, attempts and retries by the system that they call.

A local activity costs a third of a regular one and suits a group of steps on the database. A step that needs another
system, or that failed in its group, runs as a regular activity, whose attempts an operator can see.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, FailureError, RetryState

from activities.messages import StepContext
from lastmile.contract.steps import CallKind
from workflows.failure_details import attempt_of, is_outage

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
"""The timeout of a group's one attempt. The steps of a group that takes longer run alone."""


class Caller:
    """Calls the activities of one order, one after another."""

    def __init__(self) -> None:
        self._calls = 0
        self._kind = CallKind.DATABASE
        self._earlier = 0
        """The attempts of the current activity before its current series."""
        self.reversible = True
        """An IPAM step waits until an outage ends.

        After the pivot and in a rollback it parks instead, so that an operator can skip it.
        """

    async def try_locally(
        self, activity: str, summary: str, ref: StepContext, *content: Any, returns: Any = None, name: str = ""
    ) -> Any:
        """Run a database activity once as a local activity, and return its result. Raise its failure."""
        return await workflow.execute_local_activity(
            activity,
            args=[ref, *content],
            result_type=returns,
            activity_id=self._next_id(name or activity),
            summary=summary,
            start_to_close_timeout=LOCAL_ATTEMPT,
            retry_policy=RetryPolicy(maximum_attempts=1),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

    async def call(
        self,
        activity: str,
        summary: str,
        kind: CallKind,
        ref: StepContext,
        *content: Any,
        returns: Any = None,
        name: str = "",
        earlier: int = 0,
        endless: bool = False,
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
            earlier: The number of attempts in a group before these.
            endless: There is no limit for the attempts.
        """
        self._kind, self._earlier = kind, earlier
        activity_id = self._next_id(name or activity)
        patience = PATIENCE[kind]
        while True:
            try:
                return await workflow.execute_activity(
                    activity,
                    args=[ref, *content],
                    result_type=returns,
                    activity_id=activity_id,
                    summary=summary,
                    start_to_close_timeout=patience.attempt,
                    heartbeat_timeout=patience.heartbeat,
                    retry_policy=RetryPolicy(
                        initial_interval=timedelta(milliseconds=200),
                        maximum_interval=patience.longest_pause,
                        maximum_attempts=0 if endless else patience.attempts,
                    ),
                    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                )
            except FailureError as failure:
                waits = kind is CallKind.IPAM and self.reversible and is_outage(failure)
                if waits and workflow.cancellation_reason() is not None:
                    # The attempt that was running when the cancel came has hidden the cancel.
                    raise asyncio.CancelledError from None
                if not waits:
                    raise
                self._earlier += attempt_of(failure) or 0

    def _next_id(self, name: str) -> str:
        """Return a new activity id. Replay compares ids and not arguments: the name tells activities apart."""
        self._calls += 1
        return f"{name}-{self._calls}"

    def failed_in_group(self) -> None:
        """Take the failure of a step in a group for that of the last activity: it was one attempt."""
        self._earlier = 0

    def attempts(self, last: int | None) -> int | None:
        """Return the number of attempts of the last activity; `last` is its last regular attempt."""
        return None if last is None else last + self._earlier

    def attempts_failed(self, failure: BaseException) -> int | None:
        """Return the number of attempts before this failure; None: unknown, as after a timeout."""
        last = attempt_of(failure)
        if last is None and isinstance(failure, ActivityError):
            used_up = failure.retry_state == RetryState.MAXIMUM_ATTEMPTS_REACHED
            last = PATIENCE[self._kind].attempts if used_up else None
        return self.attempts(last)
