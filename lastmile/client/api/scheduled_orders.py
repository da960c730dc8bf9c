"""Scheduled orders over the REST API: list, move and cancel them."""

from collections.abc import AsyncIterator
from datetime import datetime

from lastmile.client.api.order_run import order_path, to_scheduled
from lastmile.client.api.records import ApiOrder
from lastmile.client.api.transport import NO_PATIENCE, Transport
from lastmile.client.errors import ClientError, NotScheduledError
from lastmile.client.scheduled_orders import ScheduledOrder
from lastmile.subscribers.accepted_orders import AcceptedState

__all__ = ["ApiScheduledOrders"]

_LIST = {"status": AcceptedState.SCHEDULED.value, "limit": 1000}


class ApiScheduledOrders:
    """The scheduled orders."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def waiting(self, tenant: str | None = None) -> AsyncIterator[ScheduledOrder]:
        """Yield all scheduled orders, or those of one tenant, in no order."""
        async for found in self._transport.pages("/v1/orders", {"tenant": tenant, **_LIST}):
            yield to_scheduled(ApiOrder.model_validate(found))

    async def of_subscriber(self, tenant: str, subscriber_ref: str) -> list[ScheduledOrder]:
        """Return the scheduled orders of a subscriber, by time."""
        filters = {"tenant": tenant, "subscriber": subscriber_ref, **_LIST}
        found = [ApiOrder.model_validate(order) async for order in self._transport.pages("/v1/orders", filters)]
        return sorted(map(to_scheduled, found), key=lambda order: order.at)

    async def move(self, tenant: str, order_id: str, at: datetime) -> ScheduledOrder:
        """Change the start time of the order. Raises `NotScheduledError`."""
        await self._require(tenant, order_id)
        body = {"not_before": at.isoformat()}
        answer = await self._transport.send(
            "PATCH",
            order_path(order_id),
            body,
            tenant=tenant,
            headers={"If-Match": "*"},  # whatever another operator has changed
            patience=NO_PATIENCE,
        )
        return to_scheduled(ApiOrder.model_validate(answer))

    async def cancel(self, tenant: str, order_id: str, *, reason: str = "by the client") -> None:
        """Cancel the order before it starts. Raises `NotScheduledError`."""
        await self._require(tenant, order_id)
        path = f"{order_path(order_id)}/cancel"
        body = {"reason": reason}
        answer = await self._transport.send("POST", path, body, tenant=tenant, patience=NO_PATIENCE)
        if answer["status"] != AcceptedState.CANCELLED:
            raise NotScheduledError(f"Order {order_id} had begun at this moment: it is being rolled back.")

    async def _require(self, tenant: str, order_id: str) -> None:
        """Raise `NotScheduledError` for an order that is not scheduled: the API would cancel its run."""
        try:
            found = ApiOrder.model_validate(await self._transport.get(order_path(order_id), {"tenant": tenant}))
        except ClientError as failure:  # not found
            raise NotScheduledError(f"No order {order_id} of tenant {tenant} is scheduled.") from failure
        if found.status != AcceptedState.SCHEDULED:
            words = found.status.replace("_", " ")
            raise NotScheduledError(f"Order {order_id} of tenant {tenant} is not scheduled: it is {words}.")
