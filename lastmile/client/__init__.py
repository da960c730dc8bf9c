"""For other programs: send orders, wait for their results, watch and cancel runs."""

from lastmile.client.connection import Unreachable
from lastmile.client.errors import AlreadyRunning, NotRunning, NotScheduled, OrderIdReused, OrderRefused, RunLost
from lastmile.client.orders import Lastmile, OrderRun
from lastmile.client.scheduled_orders import ScheduledOrder
from lastmile.contract import (
    DeprovisionSubscriber,
    OrderResult,
    Progress,
    ProvisionSubscriber,
    ResultStatus,
)
from lastmile.encryption.keys import KeyRing

__all__ = [
    "AlreadyRunning",
    "DeprovisionSubscriber",
    "KeyRing",
    "Lastmile",
    "NotRunning",
    "NotScheduled",
    "OrderIdReused",
    "OrderRefused",
    "OrderResult",
    "OrderRun",
    "Progress",
    "ProvisionSubscriber",
    "ResultStatus",
    "RunLost",
    "ScheduledOrder",
    "Unreachable",
]
