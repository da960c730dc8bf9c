"""What can go wrong between us and NetBox, by name: what was surely not done, what may have been, what a retry fixes.

No message carries the token or anything that NetBox was not asked by us.
"""

from lastmile.errors import Outage, Refused

__all__ = [
    "Ambiguous",
    "ConnectionLost",
    "Exhausted",
    "Invalid",
    "KeyTaken",
    "NetBoxError",
    "NoTenant",
    "NotAuthorised",
    "NotFound",
    "NotNetBox",
    "NotReady",
    "ServerError",
    "TimedOut",
    "Unavailable",
    "Unreachable",
]


class NetBoxError(Exception):
    """NetBox did not do what it was asked, or we cannot know that it did."""

    retry_after: float = 0
    """Seconds, where whoever answered said so."""


class Unreachable(NetBoxError, Outage):
    """No connection came about: nothing was done. A certificate that is not trusted counts as this."""


class NotReady(NetBoxError, Outage):
    """NetBox lacks what `lastmile netbox check` looks for: nothing is written until an operator has fixed it."""


class NoTenant(NotReady):
    """NetBox lacks the tenant of this object, which says nothing about objects of other tenants."""


class KeyTaken(NetBoxError):
    """Another prefix carries this allocation key, so an earlier attempt has succeeded meanwhile: look it up again."""


class Ambiguous(NetBoxError, Outage):
    """A write may have been done, or may still be: look it up by its key before anything else."""


class TimedOut(Ambiguous):
    """No answer within the time-out. NetBox works on, and an attempt that still waits for its lock commits later."""


class ConnectionLost(Ambiguous):
    """The connection ended before the whole answer had come."""


class ServerError(Ambiguous):
    """NetBox answered 500. It does so after a commit too."""


class Unavailable(Ambiguous):
    """NetBox, or a proxy before it, takes no request now: 429, 502, 503 or 504."""


class NotAuthorised(NetBoxError, Outage):
    """401 or 403: NetBox does not accept the token, or the token may not do this."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem


class NotFound(NetBoxError, Refused):
    """404: the object, or the one that it should be made in, is not in NetBox."""


class Exhausted(NetBoxError, Refused):
    """409 of `available-prefixes`: the parent has no free prefix of this length."""


class Invalid(NetBoxError, Refused):
    """400, or a conflict: the message has NetBox's own words."""


class NotNetBox(NetBoxError, Outage):
    """What answers is not NetBox's API: another server, a login page, a redirect."""
