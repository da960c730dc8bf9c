"""The errors of accounts, NAS records and templates. None of them is retried, since a retry cannot succeed."""

from lastmile.errors import NonRetryableError

__all__ = [
    "AccountConflictError",
    "GivenPasswordError",
    "InvalidTemplateError",
    "NasConflictError",
    "NasInUseError",
    "TemplateInUseError",
    "UnknownNasError",
    "UnknownTemplateError",
]


class AccountConflictError(NonRetryableError):
    """The account exists with another plan."""


class GivenPasswordError(NonRetryableError):
    """The password that an order gives cannot be stored or used."""


class InvalidTemplateError(NonRetryableError):
    """A template with items that no NAS could understand; each problem is one line."""


class NasConflictError(NonRetryableError):
    """A NAS with this address exists and differs, or several NASes have the name."""


class NasInUseError(NonRetryableError):
    """The NAS has open sessions."""


class TemplateInUseError(NonRetryableError):
    """A tenant, a NAS or another template uses the template."""


class UnknownNasError(NonRetryableError):
    """No NAS has this name or address."""


class UnknownTemplateError(NonRetryableError):
    """No attribute template has this name."""
