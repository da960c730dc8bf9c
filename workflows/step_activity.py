"""How the steps of an order call their activities: how long an attempt may take, how often it is repeated, and where.

A step that touches only the database runs as a local activity, which costs a third. A step that needs more declines
there, and so does a step that fails. It then runs as an activity proper, where an operator sees each attempt.
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
from workflows.failure_details import attempt_of, is_outage, kind_of, mendable

__all__ = ["Caller"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one attempt may take, and how many there are. Attempts are counted and not timed: an hour
    without workers is no reason to roll back."""

    attempt: timedelta
    attempts: int
    longest_pause: timedelta
    heartbeat: timedelta | None = None


# A database that is away for two minutes is waited for; an attempt outlives every time-out in db.database, and three
# of NetBox, whose lock one waits for.
PATIENCE = {
    CallKind.DATABASE: Patience(timedelta(seconds=15), 30, timedelta(seconds=5)),
    CallKind.IPAM: Patience(timedelta(seconds=60), 30, timedelta(seconds=30)),
    CallKind.RADIUS: Patience(timedelta(seconds=120), 10, timedelta(seconds=10)),
    CallKind.DEVICE: Patience(timedelta(minutes=3), 10, timedelta(seconds=30), heartbeat=timedelta(seconds=20)),
}

LOCAL_ATTEMPT = timedelta(seconds=15)
"""How long the one attempt as a local activity may take."""


class Caller:
    """Calls the activities of one order, one after the other."""

    def __init__(self) -> None:
        self._calls = 0
        self._kind = CallKind.DATABASE
        self._local_attempts = 0
        """Of the last activity called, before its newest series of attempts as an activity proper."""
        self.reversible = True
        """Whether a step of IPAM that meets an outage waits until the outage ends.

        After the pivot and in a rollback the step fails instead, and parks: there an operator can skip it.
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
        """Return what the activity returns, or raise what it fails with.

        Args:
            activity: The type of the activity.
            summary: What it does, for the Temporal UI.
            kind: What it talks to.
            ref: The order that it works for; the activity's first argument.
            content: The other arguments.
            returns: The type of the result.
            name: What its activity id begins with; default: its type.
            local: Try it as a local activity first, once.
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
                if is_cancelled_exception(failure) or not mendable(failure):
                    raise
                self._local_attempts = 0 if kind_of(failure) == BEYOND_DATABASE else 1
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
                    # The attempt that was at work when the cancel came has hidden it.
                    raise asyncio.CancelledError from None
                if not (waits and workflow.patched("wait-for-outage")):
                    raise
                self._local_attempts += attempt_of(failure) or 0

    def attempts(self, last: int | None) -> int | None:
        """How often the last activity was tried, where its last attempt proper was this one."""
        return None if last is None else last + self._local_attempts

    def attempts_failed(self, failure: BaseException) -> int | None:
        """How often the last activity was tried before this failure; None: not known, as after one time-out."""
        last = attempt_of(failure)
        if last is None and isinstance(failure, ActivityError):
            used_up = failure.retry_state == RetryState.MAXIMUM_ATTEMPTS_REACHED
            last = PATIENCE[self._kind].attempts if used_up else None
        return self.attempts(last)
