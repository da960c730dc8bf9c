"""The suspend order."""

from lastmile.contract.line_states import LineState
from lastmile.contract.operations.order_type import LineEffect, OrderType, verify_line
from lastmile.contract.orders import Operation, SuspendSubscriber
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["SUSPEND"]

SUSPEND: OrderType[SuspendSubscriber] = OrderType(
    operation=Operation.SUSPEND,
    model=SuspendSubscriber,
    summary="Suspend a subscriber's line until an order, or a given time, resumes it. The line keeps its addresses.",
    effect=LineEffect.CHANGES,
    invariants=("half_changed", "half_suspended", "overdue_suspension", "unrestricted_session"),
    refused_in={LineState.SUSPENDED: "Resume the line first, then suspend it in the other mode."},
    steps=(
        verify_line(Operation.SUSPEND),
        Step(
            "record_suspension",
            "record the suspension",
            CallKind.DATABASE,
            undo="delete_suspension",
            content=lambda order: (order.reason, order.mode, order.until),
            creates=(RecordKind.SUSPENSION,),
        ),
        Step(
            "suspend_addresses",
            "suspend the addresses",
            CallKind.IPAM,
            undo="resume_addresses",
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.PREFIX,),
        ),
        Step(
            "suspend_radius_account",
            "suspend the RADIUS account, tell the sessions",
            CallKind.RADIUS,
            undo="resume_radius_account",
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.RADIUS_ACCOUNT,),
        ),
        Step(
            "suspend_billing_service",
            "suspend billing",
            CallKind.DATABASE,
            undo="resume_billing_service",
            changes=(RecordKind.BILLING_SERVICE,),
        ),
    ),
)
