"""The change_plan order."""

from lastmile.contract.operations.order_type import LineEffect, OrderType, verify_line
from lastmile.contract.orders import ChangePlan, Operation
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["CHANGE_PLAN"]

CHANGE_PLAN: OrderType[ChangePlan] = OrderType(
    operation=Operation.CHANGE_PLAN,
    model=ChangePlan,
    summary="Give a line another plan. Live sessions get the new rates without a break, where their NAS allows it.",
    effect=LineEffect.CHANGES,
    invariants=("half_changed", "other_plan"),
    steps=(
        verify_line(Operation.CHANGE_PLAN),
        Step(
            "change_radius_plan",
            "put the account into the group of the plan, and tell the live sessions",
            CallKind.RADIUS,
            undo="restore_radius_plan",
            content=lambda order: (order.plan, order.on_refusal),
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.RADIUS_ACCOUNT,),
            facts=("radius_username",),
        ),
        Step(
            "change_onu_speed",
            "give the line the speed profile of the plan, and the ONU its rates",
            CallKind.DEVICE,
            undo="restore_onu_speed",
            content=lambda order: (order.plan, order.speed_profile),
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.NETWORK_PROFILE,),
        ),
        Step(
            "change_billing_plan",
            "charge the plan",
            CallKind.DATABASE,
            undo="restore_billing_plan",
            content=lambda order: (order.plan,),
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.BILLING_SERVICE,),
            facts=("billing_service_id",),
        ),
    ),
)
