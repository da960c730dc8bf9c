"""The update_customer order."""

from lastmile.contract.operations.order_type import LineEffect, OrderType, verify_line
from lastmile.contract.orders import Operation, UpdateCustomer
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["UPDATE_CUSTOMER"]

UPDATE_CUSTOMER: OrderType[UpdateCustomer] = OrderType(
    operation=Operation.UPDATE_CUSTOMER,
    model=UpdateCustomer,
    summary="Correct the name, e-mail address or telephone number of a subscriber's customer.",
    effect=LineEffect.CHANGES,
    invariants=("half_changed",),
    steps=(
        verify_line(Operation.UPDATE_CUSTOMER),
        Step(
            "update_customer",
            "correct the customer",
            CallKind.DATABASE,
            undo="restore_customer",
            content=lambda order: (order.corrections,),
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.CUSTOMER,),
            facts=("customer_id",),
        ),
    ),
)
