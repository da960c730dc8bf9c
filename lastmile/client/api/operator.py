"""What the command line asks about orders, over the REST API."""

from lastmile.client.api.orders import LastmileApi
from lastmile.client.api.overview import read_overview
from lastmile.client.parked_runs import ParkedRun
from lastmile.client.subscriber_orders import SubscriberOrders
from lastmile.contract import AnyOrder
from lastmile.services.overview import Overview

__all__ = ["ApiOperator"]


class ApiOperator:
    """The same as `OperatorClient` without access to Temporal: the API itself looks at Temporal and at its workers."""

    def __init__(self, api: LastmileApi) -> None:
        self.orders = api

    async def open_order(self, tenant: str, subscriber: str) -> str:
        """Name the subscriber's order that has not ended; empty without such an order."""
        found = await self.orders.open_order(tenant, subscriber)
        return f"{found.operation} order {found.order_id}" if found else ""

    async def pending_decision(self, order: AnyOrder) -> str:
        """Describe the decision that the running order waits for; empty if its run is not parked."""
        return self.orders.attention(order.tenant, order.order_id)

    async def parked_runs(self, tenant: str | None = None, step: str | None = None) -> list[ParkedRun]:
        """Return the parked orders, the longest waiting first: all, or those of one tenant or at one step."""
        return await self.orders.parked_runs(tenant, step)

    async def overview(self, tenant: str, subscriber: str) -> Overview:
        """Return the subscriber with its records, without the history of its addresses."""
        return await read_overview(self.orders, tenant, subscriber)

    async def subscriber_orders(self, tenant: str, subscriber: str) -> SubscriberOrders:
        """Return the orders of the subscriber that have not ended."""
        scheduled = await self.orders.scheduled.of_subscriber(tenant, subscriber)
        listed = await self.orders.open_order(tenant, subscriber)
        if listed is None:
            return SubscriberOrders(scheduled=scheduled)
        name = f"{listed.operation} order {listed.order_id}"
        found = await self.orders.order(tenant, listed.order_id)
        if found.live == "progress":
            return SubscriberOrders(order=name, run=found.progress(), scheduled=scheduled)
        trouble = f"{name} waits to be started."
        if found.live is not None:
            trouble = f"Where {name} stands is not known: no worker answers."
        return SubscriberOrders(order=name, trouble=trouble, scheduled=scheduled)

    async def require_answer(self, tenant: str, subscriber: str) -> None:
        """Do nothing: the API refuses a decision that no worker takes."""

    async def temporal_answers(self) -> bool:
        """Return True: the API accepts orders while Temporal is away."""
        return True

    async def worker_shortage(self) -> str:
        """Return nothing: the API accepts orders while no worker takes them."""
        return ""
