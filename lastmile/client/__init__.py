"""The API for other programs: send orders, wait for results, watch, schedule, cancel and decide.

Import from this package only. Its modules are internal.
"""

from lastmile.client.api.failures import AccessRefusedError, ApiUnavailableError
from lastmile.client.api.orders import LastmileApi
from lastmile.client.credentials import Credentials, CredentialStore
from lastmile.client.errors import (
    AlreadyRunningError,
    ClientError,
    NotRunningError,
    NotScheduledError,
    OrderIdReusedError,
    OrderRefusedError,
    PastPivotError,
    RunLostError,
)
from lastmile.client.orders import Lastmile, OrderRun
from lastmile.client.parked_runs import ParkedRun, parked_runs
from lastmile.client.scheduled_orders import ScheduledOrder, ScheduledOrders
from lastmile.client.temporal.connection import TemporalUnreachableError
from lastmile.client.temporal.settings import InvalidTemporalSettingsError
from lastmile.contract import (
    AnyOrder,
    ChangeAddressing,
    ChangePlan,
    Choice,
    Created,
    Decision,
    DeprovisionSubscriber,
    Operation,
    OrderResult,
    Parked,
    Progress,
    ProvisionSubscriber,
    RelocateLine,
    Renumber,
    ReplaceDevice,
    ResultStatus,
    ResumeSubscriber,
    RotateCredentials,
    RunStatus,
    StepOutcome,
    StepResult,
    SuspendSubscriber,
    SuspensionMode,
    TakenDecision,
    TransferLine,
    UpdateCustomer,
    Urgency,
)
from lastmile.contract.addressing import Addressing, IPv4Mode, IPv6Mode
from lastmile.contract.lines import Access, ConnectionType, Customer, IpoeIdentity, Line, Option82Policy, ServicePlan
from lastmile.contract.suspension import Refusal
from lastmile.encryption.keys import KeyRing
from lastmile.errors import LastmileError

__all__ = [
    "Access",
    "AccessRefusedError",
    "Addressing",
    "AlreadyRunningError",
    "AnyOrder",
    "ApiUnavailableError",
    "ChangeAddressing",
    "ChangePlan",
    "Choice",
    "ClientError",
    "ConnectionType",
    "Created",
    "CredentialStore",
    "Credentials",
    "Customer",
    "Decision",
    "DeprovisionSubscriber",
    "IPv4Mode",
    "IPv6Mode",
    "InvalidTemporalSettingsError",
    "IpoeIdentity",
    "KeyRing",
    "Lastmile",
    "LastmileApi",
    "LastmileError",
    "Line",
    "NotRunningError",
    "NotScheduledError",
    "Operation",
    "Option82Policy",
    "OrderIdReusedError",
    "OrderRefusedError",
    "OrderResult",
    "OrderRun",
    "Parked",
    "ParkedRun",
    "PastPivotError",
    "Progress",
    "ProvisionSubscriber",
    "Refusal",
    "RelocateLine",
    "Renumber",
    "ReplaceDevice",
    "ResultStatus",
    "ResumeSubscriber",
    "RotateCredentials",
    "RunLostError",
    "RunStatus",
    "ScheduledOrder",
    "ScheduledOrders",
    "ServicePlan",
    "StepOutcome",
    "StepResult",
    "SuspendSubscriber",
    "SuspensionMode",
    "TakenDecision",
    "TemporalUnreachableError",
    "TransferLine",
    "UpdateCustomer",
    "Urgency",
    "parked_runs",
]
