"""The one distinction that every layer makes about a failure: can a retry fix it?

Everything that is not `NonRetryableError` is retried.
"""

from collections.abc import Sequence

__all__ = ["InvalidInputError", "NonRetryableError", "OutageError"]


class NonRetryableError(Exception):
    """A failure that a retry cannot fix: bad input, an exhausted pool, an unknown subscriber, a wrong state.

    Subclasses name the case; the message says what was wrong, where, and what to do about it. A workflow
    sees the subclass's name as the error type and does not retry.
    """


class OutageError(Exception):
    """A failure of a system that lasts until time or a person repairs it: away, not set up, or refusing our token.

    The order is not at fault. A step that must be done waits for as long as it takes.
    """


class InvalidInputError(Exception):
    """What the user typed, sent or configured is wrong; each problem is one line."""

    def __init__(self, heading: str, problems: Sequence[str] = ()) -> None:
        super().__init__("\n".join([heading, *(f"  {problem}" for problem in problems)]))
