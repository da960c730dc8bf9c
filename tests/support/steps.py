"""The address steps of an order, one by one, for subscribers of tenant `acme`."""

from datetime import timedelta
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.addresses import AddressActivities
from activities.group_messages import OrderOpening
from activities.messages import StepContext, StepReport
from activities.order_record import OrderClosing, OrderRecord
from activities.orders import OrderActivities
from activities.step_groups import StepGroups
from ipam.allocation import Quarantine
from ipam.netbox import NetBox
from lastmile.contract import Operation, ResultStatus
from lastmile.contract.addressing import Addressing
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization

__all__ = ["QUARANTINE", "VRF", "Steps", "closing"]

QUARANTINE = Quarantine(confirmed=timedelta(hours=24), unconfirmed=timedelta(days=7))
VRF = "access"
"""The VRF of the pools in NetBox, and of the orders for them."""


def closing(ref: StepContext, status: str, **reports: StepReport) -> OrderClosing:
    """Return the closing of an order whose steps have reported this."""
    record = OrderRecord(
        operation=Operation.PROVISION,
        tenant=ref.tenant,
        order_id=ref.order_id,
        subscriber_ref=ref.subscriber_ref,
        steps={},
    )
    for step, report in reports.items():
        record.add_step(step, report)
    return OrderClosing(record=record, status=ResultStatus(status))


class Steps:
    """The steps; each call is one attempt. A failure is Temporal's `ApplicationError`."""

    def __init__(self, database: Database, authorization: DynamicAuthorization, netbox: NetBox | None) -> None:
        self.database = database
        self.orders = OrderActivities(database, StepGroups({}))
        self._authorization = authorization
        self.use(netbox)

    def use(self, netbox: NetBox | None) -> None:
        """Use this NetBox client for the following steps."""
        self.addresses = AddressActivities(self.database, self._authorization, QUARANTINE, netbox)

    async def begin(self, ref: str = "S-1", order: str = "O-1", operation: str = "provision") -> None:
        opening = OrderOpening(operation=operation, digest=f"of {order}")
        await self.run(self.orders.open_order, self.ref(ref, order), opening)

    async def allocate(self, ref: str = "S-1", order: str = "O-1", **addressing: Any) -> str:
        """Allocate; return the prefix."""
        step = self.addresses.allocate_ip_address
        report: StepReport = await self.run(step, self.ref(ref, order), Addressing(**({"vrf": VRF} | addressing)))
        return report.facts["ipv6_prefix"]

    async def activate(self, ref: str = "S-1", order: str = "O-1") -> StepReport:
        report: StepReport = await self.run(self.addresses.activate_ipv6_lifecycle, self.ref(ref, order))
        return report

    async def undo(self, ref: str = "S-1", order: str = "O-1") -> StepReport:
        report: StepReport = await self.run(self.addresses.release_ip_address, self.ref(ref, order, undo=True))
        return report

    async def revoke(self, ref: str = "S-1", order: str = "D-1") -> StepReport:
        report: StepReport = await self.run(self.addresses.revoke_ipv6_lifecycle, self.ref(ref, order))
        return report

    async def release(self, ref: str = "S-1", order: str = "D-1") -> StepReport:
        report: StepReport = await self.run(self.addresses.release_ip_address, self.ref(ref, order))
        return report

    async def close(self, ref: str = "S-1", order: str = "O-1", status: str = "completed") -> None:
        await self.run(self.orders.close_order, self.ref(ref, order), closing(self.ref(ref, order), status))

    @staticmethod
    async def run(activity: Any, *arguments: Any) -> Any:
        return await ActivityEnvironment().run(activity, *arguments)

    @staticmethod
    def ref(ref: str, order: str, *, undo: bool = False) -> StepContext:
        return StepContext(tenant="acme", order_id=order, subscriber_ref=ref, undo=undo)
