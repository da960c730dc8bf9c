"""What can be wrong with an account or a NAS record, by name. A retry fixes none of these."""

from lastmile.errors import NonRetryableError

__all__ = ["AccountConflictError", "NasConflictError", "NasInUseError", "UnknownNasError"]


class AccountConflictError(NonRetryableError):
    """The account exists already, on another plan."""


class NasConflictError(NonRetryableError):
    """A NAS of this address exists already and differs, or several have the name."""


class NasInUseError(NonRetryableError):
    """Sessions are open on the NAS."""


class UnknownNasError(NonRetryableError):
    """No NAS has this name or address."""
