"""The errors of the client."""

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
    "PastPivotError",
    "RenumberingStoppedError",
    "RunLostError",
    "RunStuckError",
    "UnknownScheduleError",
]


class ClientError(LastmileError):
    """A request that cannot be carried out. The message says why and what to do."""


class AlreadyRunningError(ClientError):
    """Another operation on this subscriber is running; the message names it."""

    def __init__(self, message: str, *, order_id: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.order_id = order_id
        """The order of the other operation; empty where it is unknown."""
        self.operation = operation
        """The order type of that order; empty where it is unknown."""


class OrderIdReusedError(ClientError):
    """The running or scheduled order of this id has other content."""


class OrderRefusedError(ClientError):
    """The order was refused before its first step: nothing was done."""


class NotRunningError(ClientError):
    """No order of this subscriber is running, or none is parked."""


class PastPivotError(ClientError):
    """The order has passed its point of no return: it can only go forward."""


class RunStuckError(ClientError):
    """The run takes no decision, since its workflow tasks fail."""


class NotScheduledError(ClientError):
    """No order of this id waits for a later date."""


class UnknownScheduleError(ClientError):
    """The Schedule of this name is not in the namespace."""


class CleanupStoppedError(ClientError):
    """The cleanup was cancelled or terminated before its end."""


class RenumberingStoppedError(ClientError):
    """The renumbering of a pool was cancelled or terminated before its end."""


class NotPausedError(ClientError):
    """The Schedule does not show that it was paused or resumed."""


class RunLostError(LastmileError):
    """The run was terminated from outside. The subscriber's next order takes over what it left."""
