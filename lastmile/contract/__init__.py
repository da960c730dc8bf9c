"""The contract: the orders that callers send, and the results and progress that they get back."""

from lastmile.contract.maintenance import AuditResult, Cleanup, CleanupResult, CleanupState
from lastmile.contract.orders import (
    AnyOrder,
    DeprovisionSubscriber,
    LineRequest,
    Operation,
    Order,
    ProvisionSubscriber,
    RelocateLine,
    ReplaceDevice,
    RotateCredentials,
    UpdateCustomer,
    Urgency,
    schedule_id,
    workflow_id,
)
from lastmile.contract.progress import Decision, Parked, Progress, RunStatus
from lastmile.contract.results import (
    Choice,
    Created,
    OrderResult,
    ResultStatus,
    StepOutcome,
    StepResult,
    TakenDecision,
)

__all__ = [
    "AnyOrder",
    "AuditResult",
    "Choice",
    "Cleanup",
    "CleanupResult",
    "CleanupState",
    "Created",
    "Decision",
    "DeprovisionSubscriber",
    "LineRequest",
    "Operation",
    "Order",
    "OrderResult",
    "Parked",
    "Progress",
    "ProvisionSubscriber",
    "RelocateLine",
    "ReplaceDevice",
    "ResultStatus",
    "RotateCredentials",
    "RunStatus",
    "StepOutcome",
    "StepResult",
    "TakenDecision",
    "UpdateCustomer",
    "Urgency",
    "schedule_id",
    "workflow_id",
]
