"""The transfer order."""

from lastmile.contract.operations.order_type import LineEffect, OrderType, verify_line
from lastmile.contract.orders import Operation, TransferLine
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["TRANSFER"]

TRANSFER: OrderType[TransferLine] = OrderType(
    operation=Operation.TRANSFER,
    model=TransferLine,
    summary="Give the line to another customer, who pays from now on.",
    effect=LineEffect.CHANGES,
    invariants=("half_changed", "left_behind"),
    steps=(
        verify_line(Operation.TRANSFER),
        Step(
            "create_customer",
            "create the customer",
            CallKind.DATABASE,
            undo="delete_customer",
            content=lambda order: (order.customer,),
            creates=(RecordKind.CUSTOMER,),
            facts=("customer_id",),
        ),
        Step(
            "transfer_line",
            "give the line to the customer",
            CallKind.DATABASE,
            undo="return_line",
            content=lambda order: (order.customer.ref,),
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.SUBSCRIBER, RecordKind.BILLING_SERVICE),
        ),
    ),
)
