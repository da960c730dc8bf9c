"""What can be wrong with an account or a NAS record, by name. A retry fixes none of these."""

from lastmile.errors import Refused

__all__ = ["AccountConflict", "NasConflict", "NasInUse", "UnknownNas"]


class AccountConflict(Refused):
    """The account exists already, on another plan."""


class NasConflict(Refused):
    """A NAS of this address exists already and differs, or several have the name."""


class NasInUse(Refused):
    """Sessions are open on the NAS."""


class UnknownNas(Refused):
    """No NAS has this name or address."""
