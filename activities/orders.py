"""The order itself: opened before the first step, closed after the last."""

from sqlalchemy import text
from temporalio import activity

from activities.base import Activities, failing_by_type
from activities.signatures import Opened, OrderClosing, OrderOpening, StepRef
from subscribers import orders

__all__ = ["OrderActivities"]


# What an order made, or changed and would change back, is from now on as if its heir had.
_LEFTOVERS = ("customers", "subscribers", "network_profiles", "billing_services", "devices", "delegations", "radcheck")
_COLUMNS = [(table, "created_by_order") for table in _LEFTOVERS]
_COLUMNS += [("billing_services", "suspended_by_order"), ("devices", "updated_by_order")]
_ADOPT = [text(f"UPDATE {table} SET {column} = :heir WHERE {column} = ANY(:lost)") for table, column in _COLUMNS]


class OrderActivities(Activities):
    @activity.defn
    @failing_by_type
    async def open_order(self, ref: StepRef, opening: OrderOpening) -> Opened:
        """Begin the order; its result where it ended before.

        What a lost order of the same operation left becomes this one's: to be kept by it, or undone with it.
        """
        async with self._database.tenant(ref.tenant) as connection:
            found = await orders.open_order(
                connection,
                ref.tenant,
                ref.order_id,
                opening.operation,
                ref.subscriber_ref,
                opening.digest,
                activity.info().workflow_run_id or "",
                ref.requested_by,
            )
            for adopt in _ADOPT if found.superseded else ():
                await connection.execute(adopt, {"heir": ref.order_id, "lost": list(found.superseded)})
        return Opened(result=found.result, taken_over=found.again or bool(found.superseded))

    @activity.defn
    @failing_by_type
    async def begin_rollback(self, ref: StepRef) -> None:
        """From here on no step of the order acts any more, also not one that is on its way."""
        async with self._order(ref):
            pass

    @activity.defn
    @failing_by_type
    async def close_order(self, ref: StepRef, closing: OrderClosing) -> None:
        """Record how the order ended."""
        async with self._database.tenant(ref.tenant) as connection:
            await orders.close_order(connection, ref.order_id, orders.OrderStatus(closing.status), closing.result)
