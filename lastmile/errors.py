"""The base of all errors of Lastmile, and the one distinction that every layer makes: can a retry repair the failure?

    LastmileError                     every error that Lastmile raises
    ├── NonRetryableError             no retry can help: the order, the configuration or a record must change
    │   ├── PoolMovedError            a NetBox prefix is not where its pool is
    │   └── (ipam.errors, lastmile.subscribers.errors, lastmile.radius.errors, …)
    ├── OutageError                   a system is away or not set up: an order waits
    │   └── ControllerUnavailableError  a device controller is away or busy (lastmile.devices.errors)
    ├── NetBoxError                   NetBox did not do what it was asked (ipam.netbox.errors)
    │   ├── NetBoxNotReadyError       NetBox lacks something that Lastmile needs; an outage
    │   └── AmbiguousWriteError       NetBox may have carried out the request; an outage
    ├── UnavailableError              a server that a request needs is away
    │   └── ApiUnavailableError       the REST API is away, or busy (lastmile.client.api.failures)
    ├── InvalidInputError             a command, an order file or a setting is wrong
    │   └── AccessRefusedError        the REST API refuses the token (lastmile.client.api.failures)
    └── ClientError                   a request of the client cannot be carried out (lastmile.client.errors)
        └── PoolModeError             a change of a pool's NetBox mode has stopped (lastmile.client.pool_modes)

The tree shows every error with subclasses. `tests/test_errors.py` keeps the tree true and checks that every error
derives from `LastmileError` and that its name ends in `Error`.
"""

from collections.abc import Sequence

__all__ = [
    "InvalidInputError",
    "LastmileError",
    "NonRetryableError",
    "OrderFencedError",
    "OutageError",
    "UnavailableError",
]


class LastmileError(Exception):
    """An error of Lastmile. The message says what happened, where, and what to do."""


class NonRetryableError(LastmileError):
    """A failure that a retry cannot repair: bad input, an exhausted pool, an unknown subscriber, a wrong state.

    A workflow sees the name of the subclass as the error type and does not retry. Every other error is retried.
    """


class OrderFencedError(NonRetryableError):
    """The order has moved on (it is being undone, or another order took over): a late attempt must not act."""


class OutageError(LastmileError):
    """A failure of a system that lasts until time or a person repairs it: away, not set up, or refusing our token.

    The order is not at fault. A step that must be done waits for as long as it takes.
    """


class InvalidInputError(LastmileError):
    """What the user typed, sent or configured is wrong; each problem is one line."""

    def __init__(self, heading: str, problems: Sequence[str] = ()) -> None:
        super().__init__("\n".join([heading, *(f"  {problem}" for problem in problems)]))


class UnavailableError(LastmileError):
    """A server that the request needs is not available; the message names the server, the reason and the remedy."""
