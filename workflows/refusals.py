"""What a client of Lastmile is told instead of a result."""

from errors import Refused

__all__ = [
    "AlreadyRunning",
    "NoSchedule",
    "NotHeld",
    "NotRunning",
    "NotScheduled",
    "OrderIdReused",
    "OrderRefused",
    "RunLost",
]


class AlreadyRunning(Refused):
    """Another operation on this subscriber is running; the message names it."""


class OrderIdReused(Refused):
    """The running or scheduled order of this id has other content."""


class OrderRefused(Refused):
    """The order was refused before its first step: nothing was done."""


class NotRunning(Refused):
    """No run of this subscriber is open, or none waits for a decision."""


class NotScheduled(Refused):
    """No order of this id waits for a later date."""


class NoSchedule(Refused):
    """The Schedule of this name is not in the namespace."""


class NotHeld(Refused):
    """The Schedule does not show the pause, or its end, that it was told."""


class RunLost(Exception):
    """The run was terminated from outside: what it left is taken over by the subscriber's next order."""
