"""What a client of Lastmile is told instead of a result."""

__all__ = [
    "AlreadyRunning",
    "NoSchedule",
    "NotHeld",
    "NotRunning",
    "NotScheduled",
    "OrderIdReused",
    "OrderRefused",
    "Refusal",
    "RunLost",
]


class Refusal(Exception):
    """A request that cannot be carried out as it is; the message says why and what to do.

    Other programs import this module, and may have an `errors` of their own: it imports nothing by that name.
    """


class AlreadyRunning(Refusal):
    """Another operation on this subscriber is running; the message names it."""


class OrderIdReused(Refusal):
    """The running or scheduled order of this id has other content."""


class OrderRefused(Refusal):
    """The order was refused before its first step: nothing was done."""


class NotRunning(Refusal):
    """No run of this subscriber is open, or none waits for a decision."""


class NotScheduled(Refusal):
    """No order of this id waits for a later date."""


class NoSchedule(Refusal):
    """The Schedule of this name is not in the namespace."""


class NotHeld(Refusal):
    """The Schedule does not show the pause, or its end, that it was told."""


class RunLost(Exception):
    """The run was terminated from outside: what it left is taken over by the subscriber's next order."""
