"""The errors of NetBox: after which a request was not carried out, may have been, or can be retried.

No message contains the token.
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
    """NetBox did not carry out a request, or may not have."""

    retry_after: float = 0
    """Seconds, where the answer has a `Retry-After`."""


class NetBoxUnreachableError(NetBoxError, OutageError):
    """No connection was made, also because of an untrusted certificate: nothing was carried out."""


class NetBoxNotReadyError(NetBoxError, OutageError):
    """NetBox lacks what `lastmile netbox check` looks for: nothing is written until an operator has added it."""


class NetBoxTenantMissingError(NetBoxNotReadyError):
    """NetBox lacks the tenant of this object, which says nothing about objects of other tenants."""


class KeyTakenError(NetBoxError):
    """Another record carries this key: an earlier attempt has succeeded meanwhile. Look the key up again."""


class AmbiguousWriteError(NetBoxError, OutageError):
    """NetBox may have carried out a write, or may still do so: look the key up before another attempt."""


class NetBoxTimeoutError(AmbiguousWriteError):
    """No answer within the time-out. NetBox goes on: a request that waits for a lock there commits later."""


class ConnectionLostError(AmbiguousWriteError):
    """The connection ended before the whole answer had come."""


class NetBoxServerError(AmbiguousWriteError):
    """NetBox answered 500, which it also does after a commit."""


class NetBoxUnavailableError(AmbiguousWriteError):
    """NetBox, or a proxy in front of it, accepts no request now: 429, 502, 503 or 504."""


class NetBoxAuthorizationError(NetBoxError, OutageError):
    """401 or 403: NetBox does not accept the token, or the token may not do this."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem


class NetBoxNotFoundError(NetBoxError, NonRetryableError):
    """404: NetBox does not have the object, or its parent."""


class NetBoxExhaustedError(NetBoxError, NonRetryableError):
    """409 of `available-prefixes`: the parent has no free prefix of this length."""


class NetBoxInvalidError(NetBoxError, NonRetryableError):
    """400, or a conflict: the message quotes NetBox."""


class NotNetBoxError(NetBoxError, OutageError):
    """The answer is not of NetBox's API: another server, a login page, a redirect."""


class NoNetBoxError(OutageError):
    """A pool is in NetBox, and this worker is not configured with a NetBox. Another worker may be."""
