"""The one distinction that every layer makes about a failure: can a retry fix it?

Everything that is not `Refused` is retried.
"""

__all__ = ["Refused"]


class Refused(Exception):
    """A failure that a retry cannot fix: bad input, an exhausted pool, an unknown subscriber, a wrong state.

    Subclasses name the case; the message says what was wrong, where, and what to do about it. A workflow
    sees the subclass's name as the error type and does not retry.
    """
