"""What can go wrong between us and NetBox, by name: what was surely not done, what may have been, what a retry fixes.

No message carries the token or anything that NetBox was not asked by us.
"""

from lastmile.errors import LastmileError, NonRetryableError, OutageError

__all__ = [
    "AmbiguousWriteError",
    "ConnectionLostError",
    "KeyTakenError",
    "NetBoxAuthorizationError",
    "NetBoxError",
    "NetBoxExhaustedError",
    "NetBoxInvalidError",
    "NetBoxNotFoundError",
    "NetBoxNotReadyError",
    "NetBoxServerError",
    "NetBoxTenantMissingError",
    "NetBoxTimeoutError",
    "NetBoxUnavailableError",
    "NetBoxUnreachableError",
    "NoNetBoxError",
    "NotNetBoxError",
]


class NetBoxError(LastmileError):
    """NetBox did not do what it was asked, or we cannot know that it did."""

    retry_after: float = 0
    """Seconds, where whoever answered said so."""


class NetBoxUnreachableError(NetBoxError, OutageError):
    """No connection came about: nothing was done. A certificate that is not trusted counts as this."""


class NetBoxNotReadyError(NetBoxError, OutageError):
    """NetBox lacks what `lastmile netbox check` looks for: nothing is written until an operator has fixed it."""


class NetBoxTenantMissingError(NetBoxNotReadyError):
    """NetBox lacks the tenant of this object, which says nothing about objects of other tenants."""


class KeyTakenError(NetBoxError):
    """Another prefix carries this allocation key, so an earlier attempt has succeeded meanwhile: look it up again."""


class AmbiguousWriteError(NetBoxError, OutageError):
    """A write may have been done, or may still be: look it up by its key before anything else."""


class NetBoxTimeoutError(AmbiguousWriteError):
    """No answer within the time-out. NetBox works on, and an attempt that still waits for its lock commits later."""


class ConnectionLostError(AmbiguousWriteError):
    """The connection ended before the whole answer had come."""


class NetBoxServerError(AmbiguousWriteError):
    """NetBox answered 500. It does so after a commit too."""


class NetBoxUnavailableError(AmbiguousWriteError):
    """NetBox, or a proxy before it, takes no request now: 429, 502, 503 or 504."""


class NetBoxAuthorizationError(NetBoxError, OutageError):
    """401 or 403: NetBox does not accept the token, or the token may not do this."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem


class NetBoxNotFoundError(NetBoxError, NonRetryableError):
    """404: the object, or the one that it should be made in, is not in NetBox."""


class NetBoxExhaustedError(NetBoxError, NonRetryableError):
    """409 of `available-prefixes`: the parent has no free prefix of this length."""


class NetBoxInvalidError(NetBoxError, NonRetryableError):
    """400, or a conflict: the message has NetBox's own words."""


class NotNetBoxError(NetBoxError, OutageError):
    """What answers is not NetBox's API: another server, a login page, a redirect."""


class NoNetBoxError(OutageError):
    """A pool is in NetBox, and this worker is not configured with a NetBox. Another worker may be."""
