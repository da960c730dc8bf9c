"""The activity that finds the suspensions whose end has passed."""

from datetime import timedelta

from activities.base import Activities, maintenance_activity
from activities.maintenance.messages import DueOrders
from lastmile.contract.maintenance import Cursor
from lastmile.contract.orders import ResumeSubscriber
from lastmile.subscribers.suspensions import find_due

__all__ = ["ResumptionActivities"]

PAGE = 200
PAUSE = timedelta(minutes=10)
"""The time between a resume order that was rolled back and the next one."""


class ResumptionActivities(Activities):
    @maintenance_activity
    async def find_due_resumptions(self, after: Cursor | None) -> DueOrders:
        """Return an order for each line that is to resume by itself.

        The order names the suspension: it does not resume a line that has been suspended again meanwhile.
        """
        async with self._database.platform() as connection:
            due = await find_due(connection, (after.at, after.id) if after else None, pause=PAUSE, most=PAGE)
        orders = [
            ResumeSubscriber(
                tenant=one.tenant,
                order_id=f"until-{one.id}-{one.attempts + 1}",
                subscriber_ref=one.subscriber_ref,
                suspended_by=one.created_by_order,
                requested_by=f"until of order {one.created_by_order}",
            )
            for one in due
        ]
        last = due[-1] if len(due) == PAGE else None
        return DueOrders(orders=orders, after=Cursor(at=last.resume_at, id=last.id) if last else None)
