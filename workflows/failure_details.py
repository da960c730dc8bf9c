"""The type, the message and the attempt of a failed activity, and whether a retry can help.

A regular activity fails with an `ActivityError` around its cause, a local activity with the cause itself (SDK 1.35),
and a child workflow with a `ChildWorkflowError` around its failure.
"""

from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError, TimeoutError, TimeoutType

from activities.messages import OUTAGE

__all__ = ["attempt_of", "is_outage", "message_of", "retryable", "type_of"]

_TIMEOUTS = {
    TimeoutType.START_TO_CLOSE: "the attempt exceeded its time limit, or its worker stopped",
    TimeoutType.HEARTBEAT: "the worker stopped during the attempt, or was overloaded",
}


def type_of(failure: BaseException) -> str:
    """Return the name of the error type that the activity raised."""
    cause = _cause(failure)
    return (isinstance(cause, ApplicationError) and cause.type) or type(cause).__name__


def message_of(failure: BaseException) -> str:
    """Return the message of the failure."""
    cause = _cause(failure)
    if isinstance(cause, TimeoutError) and cause.type in _TIMEOUTS:
        return _TIMEOUTS[cause.type]
    return (isinstance(cause, ApplicationError) and cause.message) or str(cause)


def retryable(failure: BaseException) -> bool:
    """Return whether a retry can help."""
    cause = _cause(failure)
    return not (isinstance(cause, ApplicationError) and cause.non_retryable)


def is_outage(failure: BaseException) -> bool:
    """Return whether an `OutageError` was the cause: a system is away or not set up, and the order is not at fault."""
    cause = _cause(failure)
    return isinstance(cause, ApplicationError) and OUTAGE in cause.details[1:]


def attempt_of(failure: BaseException) -> int | None:
    """Return the number of the attempt that failed; None after a timeout, which does not say."""
    cause = _cause(failure)
    details = cause.details if isinstance(cause, ApplicationError) else ()
    return details[0] if details and isinstance(details[0], int) else None


def _cause(failure: BaseException) -> BaseException:
    while isinstance(failure, ActivityError | ChildWorkflowError) and failure.__cause__ is not None:
        failure = failure.__cause__
    return failure
