"""The resume order."""

from lastmile.contract.line_states import LineState
from lastmile.contract.operations.order_type import LineEffect, OrderType, verify_line
from lastmile.contract.orders import Operation, ResumeSubscriber
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["RESUME"]

RESUME: OrderType[ResumeSubscriber] = OrderType(
    operation=Operation.RESUME,
    model=ResumeSubscriber,
    summary="Put a suspended line into service again.",
    effect=LineEffect.CHANGES,
    invariants=("half_changed", "half_suspended"),
    refused_in={LineState.IN_SERVICE: "There is nothing to resume."},
    steps=(
        verify_line(Operation.RESUME),
        Step(
            "end_suspension",
            "end the suspension",
            CallKind.DATABASE,
            undo="reopen_suspension",
            content=lambda order: (order.suspended_by,),
            changes=(RecordKind.SUSPENSION,),
        ),
        Step(
            "resume_addresses",
            "activate the addresses again",
            CallKind.IPAM,
            undo="suspend_addresses",
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.PREFIX,),
        ),
        Step(
            "resume_radius_account",
            "put the RADIUS account back on its plan, tell the sessions",
            CallKind.RADIUS,
            undo="suspend_radius_account",
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.RADIUS_ACCOUNT,),
        ),
        Step(
            "resume_billing_service",
            "resume billing",
            CallKind.DATABASE,
            undo="suspend_billing_service",
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.BILLING_SERVICE,),
        ),
    ),
)
