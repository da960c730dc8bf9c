"""For other programs: send orders, wait for their results, watch and cancel runs."""

from lastmile.client.connection import TemporalUnreachableError
from lastmile.client.errors import (
    AlreadyRunningError,
    NotRunningError,
    NotScheduledError,
    OrderIdReusedError,
    OrderRefusedError,
    RunLostError,
)
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
    "AlreadyRunningError",
    "DeprovisionSubscriber",
    "KeyRing",
    "Lastmile",
    "NotRunningError",
    "NotScheduledError",
    "OrderIdReusedError",
    "OrderRefusedError",
    "OrderResult",
    "OrderRun",
    "Progress",
    "ProvisionSubscriber",
    "ResultStatus",
    "RunLostError",
    "ScheduledOrder",
    "TemporalUnreachableError",
]
