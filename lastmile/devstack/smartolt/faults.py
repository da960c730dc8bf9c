"""Faults of the stand-in, requested by a test."""

from enum import Enum, auto

__all__ = ["SmartOltFault"]


class SmartOltFault(Enum):
    """What happens to a request."""

    UNAVAILABLE = auto()
    """SmartOLT answers 503."""
    REPLY_LOST = auto()
    """SmartOLT carries the request out, and the connection ends without a reply."""
    REFUSED = auto()
    """SmartOLT answers 200 with `status: false`."""
    TOO_MANY_CALLS = auto()
    """SmartOLT answers 429, and says in `Retry-After` to wait ten minutes."""
    LIMIT_REACHED = auto()
    """SmartOLT answers 200, and says in the body that the limit is reached."""
    PORT_FULL = auto()
    """SmartOLT answers 200, and refuses: the PON port has as many ONUs as it can have."""
    OTHER_SERVER = auto()
    """Another server answers, with a page in HTML."""
