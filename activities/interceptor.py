"""What is seen of every attempt at an activity: whom its log lines are about, how long it took, how it failed.

The words of a failure are not logged: they hold names, addresses, serial numbers. The line has the failure's type and
the run, which has the words.
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
    """For a worker."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Observed(next)


class _Observed(ActivityInboundInterceptor):
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
    """Which order the activity works for, if it is for one."""
    return arguments[0] if arguments and isinstance(arguments[0], StepContext) else None


def _bind(info: activity.Info, ref: StepContext | None) -> None:
    """Each attempt runs in a task of its own, and what is bound ends with it."""
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
    # Where it happened is told once, of the first attempt proper; what was refused needs no search.
    untold = info.attempt == 1 and not info.is_local and not _refused(failure)
    # `failing_by_type` made it of another.
    origin = failure.__context__ or failure
    log.warning("attempt.failed", kind=kind, tried_again=again, seconds=round(seconds, 3), exc_info=untold and origin)


def _tried_again(info: activity.Info, failure: Exception) -> bool:
    if _refused(failure):
        return False
    most = info.retry_policy.maximum_attempts if info.retry_policy else 0
    return info.is_local or most == 0 or info.attempt < most  # after a local one comes an activity proper


def _refused(failure: Exception) -> bool:
    return isinstance(failure, ApplicationError) and failure.non_retryable
