"""What can be wrong with an account or a NAS record, by name. A retry fixes none of these."""

from errors import Refused

__all__ = ["AccountConflict", "NasConflict"]


class AccountConflict(Refused):
    """The account exists already, on another plan."""


class NasConflict(Refused):
    """A NAS of this address exists already and differs."""
