"""What can be wrong with a record or an order, by name. A retry fixes none of these."""

from lastmile.errors import NonRetryableError, OrderFencedError

__all__ = [
    "LineDiffersError",
    "OrderConflictError",
    "OrderFencedError",
    "RecordConflictError",
    "TenantInUseError",
    "UnknownSubscriberError",
    "UnknownTenantError",
]


class UnknownTenantError(NonRetryableError):
    """The order names a tenant that does not exist."""


class TenantInUseError(NonRetryableError):
    """Records name the tenant, so it cannot be removed."""


class UnknownSubscriberError(NonRetryableError):
    """There is no such subscriber, or it was archived."""


class RecordConflictError(NonRetryableError):
    """A record exists already and differs from what the order says."""


class LineDiffersError(NonRetryableError):
    """The subscriber's line is in service, and is not what the order asks for."""


class OrderConflictError(NonRetryableError):
    """The order id was used before, for other content or for an order that cannot be taken up again."""
