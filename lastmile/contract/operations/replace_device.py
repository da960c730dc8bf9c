"""The replace_device order."""

from lastmile.contract.operations.line_changes import line_change
from lastmile.contract.operations.order_type import LineEffect, OrderType
from lastmile.contract.orders import Operation, ReplaceDevice

__all__ = ["REPLACE_DEVICE"]

REPLACE_DEVICE: OrderType[ReplaceDevice] = OrderType(
    operation=Operation.REPLACE_DEVICE,
    model=ReplaceDevice,
    summary="Put another ONU or CPE into service on the line, in place of the one that the line has.",
    effect=LineEffect.CHANGES,
    invariants=("half_changed", "other_device"),
    steps=line_change(Operation.REPLACE_DEVICE),
)
