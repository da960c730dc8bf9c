"""The errors of accounts and NAS records. None of them is retried, since a retry cannot succeed."""

from lastmile.errors import NonRetryableError

__all__ = ["AccountConflictError", "NasConflictError", "NasInUseError", "UnknownNasError"]


class AccountConflictError(NonRetryableError):
    """The account exists with another plan."""


class NasConflictError(NonRetryableError):
    """A NAS with this address exists and differs, or several NASes have the name."""


class NasInUseError(NonRetryableError):
    """The NAS has open sessions."""


class UnknownNasError(NonRetryableError):
    """No NAS has this name or address."""
