"""The order itself: opened before the first step, closed after the last."""

from typing import Any

from temporalio import activity

from activities.base import Activities, failing_by_type
from activities.signatures import OrderClosing, OrderOpening, StepRef
from subscribers import orders

__all__ = ["OrderActivities"]


class OrderActivities(Activities):
    @activity.defn
    @failing_by_type
    async def open_order(self, ref: StepRef, opening: OrderOpening) -> dict[str, Any] | None:
        """Begin the order; its result where it ended before."""
        async with self._database.tenant(ref.tenant) as connection:
            return await orders.open_order(
                connection, ref.tenant, ref.order_id, opening.operation, ref.subscriber_ref, opening.digest
            )

    @activity.defn
    @failing_by_type
    async def close_order(self, ref: StepRef, closing: OrderClosing) -> None:
        """Record how the order ended."""
        async with self._database.tenant(ref.tenant) as connection:
            await orders.close_order(connection, ref.order_id, orders.OrderStatus(closing.status), closing.result)
