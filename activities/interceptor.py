"""Log and measure every attempt of an activity, and of a step in a group: order, duration, type of the failure.

The message of a failure is not logged: it can contain names, addresses and serial numbers. The log line names the type
and the run, which has the message.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.current_step import activity_type, grouped_step
from activities.messages import BEYOND_DATABASE, StepContext, StepReport
from activities.step_groups import StepInterceptor
from lastmile.contract.results import StepOutcome
from lastmile.telemetry.metrics import RETRIES, STEP_SECONDS_TAKEN
from lastmile.telemetry.spans import span

__all__ = ["ActivityInterceptor"]

log = structlog.get_logger("lastmile.activities")


class ActivityInterceptor(StepInterceptor):
    """The interceptor of a worker."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _ActivityObserver(next)


class _ActivityObserver(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info, ref, name = activity.info(), _ref(input.args), activity_type()
        about: dict[str, Any] = {"step": name, "attempt": info.attempt}
        if grouped_step() is None:  # the activity of a group has bound the rest
            about |= {"workflow_id": info.workflow_id, "run_id": info.workflow_run_id}
            if ref is not None:
                about |= {"tenant": ref.tenant, "order_id": ref.order_id}
        with _bound(**about), _observing() as own:
            try:
                # The SDK's own interceptor makes the span of an activity.
                with nullcontext() if grouped_step() is None else span(f"RunStep:{name}"):
                    report = await super().execute_activity(input)
            except Exception as failure:
                kind = _kind(failure)
                if kind != BEYOND_DATABASE and own.failure is not failure:
                    _failed(info, name, ref, failure, kind, own.seconds)
                own.failure = failure
                raise
            if ref is not None:
                STEP_SECONDS_TAKEN.labels(name).observe(own.seconds)
            if isinstance(report, StepReport) and report.outcome is StepOutcome.WARNED:
                log.warning("step.warned", seconds=round(own.seconds, 3))
            else:
                log.debug("step.ended", seconds=round(own.seconds, 3))
            return report


@contextmanager
def _bound(**fields: Any) -> Iterator[None]:
    """Add the fields to every log line. `structlog.contextvars.bound_contextvars` does so at twice the cost."""
    tokens = structlog.contextvars.bind_contextvars(**fields)
    try:
        yield
    finally:
        structlog.contextvars.reset_contextvars(**tokens)


@dataclass(slots=True)
class _Own:
    """The work of an activity itself, without the steps of its group."""

    began: float = field(default_factory=time.perf_counter)
    inside: float = 0.0
    """The seconds of the steps inside it."""
    failure: BaseException | None = None
    """The failure of the last step inside it: it is logged and counted already."""

    @property
    def total(self) -> float:
        return time.perf_counter() - self.began

    @property
    def seconds(self) -> float:
        return self.total - self.inside


_around: ContextVar[_Own | None] = ContextVar("lastmile_observed_activity", default=None)


@contextmanager
def _observing() -> Iterator[_Own]:
    around, own = _around.get(), _Own()
    token = _around.set(own)
    try:
        yield own
    finally:
        _around.reset(token)
        if around is not None:
            around.inside += own.total
            around.failure = own.failure


def _ref(arguments: Sequence[Any]) -> StepContext | None:
    """Return the order that the activity works for; None for maintenance."""
    return arguments[0] if arguments and isinstance(arguments[0], StepContext) else None


def _failed(
    info: activity.Info, name: str, ref: StepContext | None, failure: Exception, kind: str, seconds: float
) -> None:
    again = _tried_again(info, failure)
    if ref is not None:
        STEP_SECONDS_TAKEN.labels(name).observe(seconds)
        if again:
            RETRIES.labels(name, kind).inc()
    # The first regular attempt logs the traceback. A refused order needs none.
    first = info.attempt == 1 and not info.is_local and not _refused(failure)
    # The error that `failing_by_type` converted.
    origin = failure.__context__ or failure
    log.warning("attempt.failed", kind=kind, tried_again=again, seconds=round(seconds, 3), exc_info=first and origin)


def _kind(failure: Exception) -> str:
    typed = isinstance(failure, ApplicationError) and failure.type
    return typed or type(failure).__name__


def _tried_again(info: activity.Info, failure: Exception) -> bool:
    if _refused(failure):
        return False
    most = info.retry_policy.maximum_attempts if info.retry_policy else 0
    return info.is_local or most == 0 or info.attempt < most  # after a local one comes an activity proper


def _refused(failure: Exception) -> bool:
    return isinstance(failure, ApplicationError) and failure.non_retryable
