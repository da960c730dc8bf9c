"""What a client of Lastmile is told instead of a result."""

from lastmile.errors import LastmileError

__all__ = [
    "AlreadyRunningError",
    "CleanupStoppedError",
    "ClientError",
    "NotPausedError",
    "NotRunningError",
    "NotScheduledError",
    "OrderIdReusedError",
    "OrderRefusedError",
    "RunLostError",
    "UnknownScheduleError",
]


class ClientError(LastmileError):
    """A request that cannot be carried out as it is; the message says why and what to do.

    Other programs import this module, and may have an `errors` of their own: it imports nothing by that name.
    """


class AlreadyRunningError(ClientError):
    """Another operation on this subscriber is running; the message names it."""


class OrderIdReusedError(ClientError):
    """The running or scheduled order of this id has other content."""


class OrderRefusedError(ClientError):
    """The order was refused before its first step: nothing was done."""


class NotRunningError(ClientError):
    """No run of this subscriber is open, or none waits for a decision."""


class NotScheduledError(ClientError):
    """No order of this id waits for a later date."""


class UnknownScheduleError(ClientError):
    """The Schedule of this name is not in the namespace."""


class CleanupStoppedError(ClientError):
    """The cleanup was cancelled or terminated before its end."""


class NotPausedError(ClientError):
    """The Schedule does not show the pause, or its end, that it was told."""


class RunLostError(LastmileError):
    """The run was terminated from outside: what it left is taken over by the subscriber's next order."""
