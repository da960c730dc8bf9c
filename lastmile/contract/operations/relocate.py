"""The relocate order."""

from lastmile.contract.operations.line_changes import line_change
from lastmile.contract.operations.order_type import LineEffect, OrderType
from lastmile.contract.orders import Operation, RelocateLine

__all__ = ["RELOCATE"]

RELOCATE: OrderType[RelocateLine] = OrderType(
    operation=Operation.RELOCATE,
    model=RelocateLine,
    summary="Move the line to another OLT port, other VLANs or another circuit id.",
    effect=LineEffect.CHANGES,
    invariants=("half_changed", "other_device"),
    steps=line_change(Operation.RELOCATE),
)
