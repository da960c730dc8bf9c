"""What can be wrong with a record or an order, by name. A retry fixes none of these."""

from lastmile.errors import Refused

__all__ = [
    "Conflict",
    "LineDiffers",
    "OrderConflict",
    "OrderFenced",
    "TenantInUse",
    "UnknownSubscriber",
    "UnknownTenant",
]


class UnknownTenant(Refused):
    """The order names a tenant that does not exist."""


class TenantInUse(Refused):
    """Records name the tenant, so it cannot be removed."""


class UnknownSubscriber(Refused):
    """There is no such subscriber, or it was archived."""


class Conflict(Refused):
    """A record exists already and differs from what the order says."""


class LineDiffers(Refused):
    """The subscriber's line is in service, and is not what the order asks for."""


class OrderConflict(Refused):
    """The order id was used before, for other content or for an order that cannot be taken up again."""


class OrderFenced(Refused):
    """The order has moved on (it is being undone, or another order took over): a late attempt must not act."""
