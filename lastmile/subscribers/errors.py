"""The errors of records and orders. None of them is retried, since a retry cannot succeed."""

from lastmile.errors import NonRetryableError, OrderFencedError

__all__ = [
    "CustomerBusyError",
    "CustomerInServiceError",
    "LineDiffersError",
    "LineStateError",
    "OrderConflictError",
    "OrderFencedError",
    "RecordConflictError",
    "TenantInUseError",
    "UnknownCustomerError",
    "UnknownSubscriberError",
    "UnknownTenantError",
]


class UnknownTenantError(NonRetryableError):
    """The order names a tenant that does not exist."""


class TenantInUseError(NonRetryableError):
    """The tenant cannot be removed, since records refer to it."""


class UnknownSubscriberError(NonRetryableError):
    """The subscriber does not exist, or was archived."""


class UnknownCustomerError(NonRetryableError):
    """The tenant has no customer of this reference."""


class CustomerInServiceError(NonRetryableError):
    """The customer has lines in service or orders that have not ended, so that its personal data is needed."""


class CustomerBusyError(NonRetryableError):
    """An order that has corrected the customer is open: its rollback would undo another correction."""


class RecordConflictError(NonRetryableError):
    """A record exists and differs from the order."""


class LineDiffersError(NonRetryableError):
    """The subscriber's line is in service and differs from the order."""


class LineStateError(NonRetryableError):
    """The order does not fit the state of the line."""


class OrderConflictError(NonRetryableError):
    """The order id was used before, with other content or for an order that cannot be resumed."""
