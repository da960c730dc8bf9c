"""Log and measure every attempt of an activity: its order, its duration and the type of its failure.

The message of a failure is not logged: it can contain names, addresses and serial numbers. The log line names the type
and the run, which has the message.
"""

import time
from collections.abc import Sequence
from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.messages import BEYOND_DATABASE, StepContext, StepReport
from lastmile.contract.results import StepOutcome
from lastmile.telemetry.metrics import RETRIES, STEP_SECONDS_TAKEN

__all__ = ["ActivityInterceptor"]

log = structlog.get_logger("lastmile.activities")


class ActivityInterceptor(Interceptor):
    """The interceptor of a worker."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _ActivityObserver(next)


class _ActivityObserver(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        ref = _ref(input.args)
        _bind(info, ref)
        began = time.perf_counter()
        try:
            report = await super().execute_activity(input)
        except Exception as failure:
            kind = failure.type if isinstance(failure, ApplicationError) and failure.type else type(failure).__name__
            if kind != BEYOND_DATABASE:  # nothing was attempted
                _failed(info, ref, failure, kind, time.perf_counter() - began)
            raise
        seconds = time.perf_counter() - began
        if ref is not None:
            STEP_SECONDS_TAKEN.labels(info.activity_type).observe(seconds)
        if isinstance(report, StepReport) and report.outcome is StepOutcome.WARNED:
            log.warning("step.warned", seconds=round(seconds, 3))
        else:
            log.debug("step.ended", seconds=round(seconds, 3))
        return report


def _ref(arguments: Sequence[Any]) -> StepContext | None:
    """Return the order that the activity works for; None for maintenance."""
    return arguments[0] if arguments and isinstance(arguments[0], StepContext) else None


def _bind(info: activity.Info, ref: StepContext | None) -> None:
    """Bind the order to the log lines of this attempt: each attempt runs in a task of its own."""
    about = {"workflow_id": info.workflow_id, "run_id": info.workflow_run_id}
    if ref is not None:
        about |= {"tenant": ref.tenant, "order_id": ref.order_id}
    structlog.contextvars.bind_contextvars(**about, step=info.activity_type, attempt=info.attempt)


def _failed(info: activity.Info, ref: StepContext | None, failure: Exception, kind: str, seconds: float) -> None:
    again = _tried_again(info, failure)
    if ref is not None:
        STEP_SECONDS_TAKEN.labels(info.activity_type).observe(seconds)
        if again:
            RETRIES.labels(info.activity_type, kind).inc()
    # The first regular attempt logs the traceback. A refused order needs none.
    first = info.attempt == 1 and not info.is_local and not _refused(failure)
    # The error that `failing_by_type` converted.
    origin = failure.__context__ or failure
    log.warning("attempt.failed", kind=kind, tried_again=again, seconds=round(seconds, 3), exc_info=first and origin)


def _tried_again(info: activity.Info, failure: Exception) -> bool:
    if _refused(failure):
        return False
    most = info.retry_policy.maximum_attempts if info.retry_policy else 0
    return info.is_local or most == 0 or info.attempt < most  # after a local one comes an activity proper


def _refused(failure: Exception) -> bool:
    return isinstance(failure, ApplicationError) and failure.non_retryable
