"""The rotate_credentials order."""

from lastmile.contract.operations.order_type import LineEffect, OrderType, verify_line
from lastmile.contract.orders import Operation, RotateCredentials
from lastmile.contract.steps import CallKind, RecordKind, Step

__all__ = ["ROTATE_CREDENTIALS"]

ROTATE_CREDENTIALS: OrderType[RotateCredentials] = OrderType(
    operation=Operation.ROTATE_CREDENTIALS,
    model=RotateCredentials,
    summary="Give a line another password. It takes effect at the next login.",
    effect=LineEffect.CHANGES,
    invariants=("half_changed",),
    steps=(
        verify_line(Operation.ROTATE_CREDENTIALS),
        Step(
            "replace_password",
            "replace the password",
            CallKind.DATABASE,
            undo="restore_password",
            content=lambda order: (order.password_ref,),
            creates=(RecordKind.PREVIOUS_VALUES,),
            changes=(RecordKind.RADIUS_ACCOUNT,),
            facts=("radius_username",),
        ),
    ),
)
