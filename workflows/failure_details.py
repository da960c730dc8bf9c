"""What a failed activity says: its cause's type and words, and whether another try can help.

An activity proper fails with an `ActivityError` around its cause, a local one with the cause itself (SDK 1.35), and a
child with a `ChildWorkflowError` around what it failed with.
"""

from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError

from activities.messages import OUTAGE

__all__ = ["attempt_of", "is_outage", "kind_of", "mendable", "words_of"]


def kind_of(failure: BaseException) -> str:
    """The name of the failure's type where it happened."""
    cause = _cause(failure)
    return (isinstance(cause, ApplicationError) and cause.type) or type(cause).__name__


def words_of(failure: BaseException) -> str:
    """What went wrong, for a person."""
    cause = _cause(failure)
    return (isinstance(cause, ApplicationError) and cause.message) or str(cause)


def mendable(failure: BaseException) -> bool:
    """Whether another try can help."""
    cause = _cause(failure)
    return not (isinstance(cause, ApplicationError) and cause.non_retryable)


def is_outage(failure: BaseException) -> bool:
    """Whether a system is away or not set up, which is not the order's fault (`errors.Outage`)."""
    cause = _cause(failure)
    return isinstance(cause, ApplicationError) and OUTAGE in cause.details[1:]


def attempt_of(failure: BaseException) -> int | None:
    """The attempt that the activity said it failed in; a time-out says nothing."""
    cause = _cause(failure)
    details = cause.details if isinstance(cause, ApplicationError) else ()
    return details[0] if details and isinstance(details[0], int) else None


def _cause(failure: BaseException) -> BaseException:
    while isinstance(failure, ActivityError | ChildWorkflowError) and failure.__cause__ is not None:
        failure = failure.__cause__
    return failure
