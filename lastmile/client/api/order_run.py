"""An order that was sent to the API: its events and its result."""

import asyncio
from datetime import UTC, datetime
from urllib.parse import quote

from lastmile.client.api.failures import ApiUnavailableError
from lastmile.client.api.records import ApiOrder, attention
from lastmile.client.api.transport import PAUSE_SECONDS, Transport
from lastmile.client.errors import OrderRefusedError, RunLostError
from lastmile.client.order_run import scheduled_result
from lastmile.client.scheduled_orders import ScheduledOrder
from lastmile.contract import AnyOrder, OrderResult, Parked, schedule_id
from lastmile.subscribers.accepted_orders import ENDED_WITHOUT_RESULT, AcceptedState

__all__ = ["ApiOrderRun", "order_path", "to_scheduled"]


class ApiOrderRun:
    """An order that the API has accepted, now or before; or an order that waits for its `not_before`."""

    def __init__(self, transport: Transport, order: AnyOrder, found: ApiOrder) -> None:
        self.order = order
        self.scheduled = _scheduled(order, found)
        """The scheduled order: nothing has started."""
        self.attention = ""
        """What an operator must decide, as far as `result` has heard; empty where the order is not parked."""
        self._transport = transport
        self._found = found

    async def result(self) -> OrderResult:
        """Wait for the end and return the result. For a scheduled order, return at once with the status `scheduled`.

        Waits while the API is away, for as long as it takes.

        Raises `OrderRefusedError` where the order was never begun and `RunLostError` where its run was terminated.
        """
        if self.scheduled is not None:
            return scheduled_result(self.order, self.scheduled)
        last = ""
        while not _has_ended(self._found):
            try:
                last = await self._follow(last)
                pause = PAUSE_SECONDS
            except ApiUnavailableError as failure:
                pause = PAUSE_SECONDS if failure.retry_after is None else failure.retry_after
            if not _has_ended(self._found):
                await asyncio.sleep(pause)
        return _outcome(self._found)

    async def _follow(self, last: str) -> str:
        """Follow the events until the order or the stream ends. Return the id of the last event."""
        path = f"{order_path(self.order.order_id)}/events"
        async for event in self._transport.events(path, self.order.tenant, last):
            last = event.id or last
            match event.name:
                case "step":
                    self.attention = ""
                case "parked":
                    self.attention = attention(Parked.model_validate_json(event.data))
                case "ended":
                    self._found = ApiOrder.model_validate_json(event.data)
                    break
        return last


def order_path(order_id: str) -> str:
    """Return the path of the order."""
    return f"/v1/orders/{quote(order_id, safe='')}"


def to_scheduled(found: ApiOrder) -> ScheduledOrder:
    """Return a scheduled order as the client over Temporal does."""
    assert found.not_before is not None
    return ScheduledOrder(
        schedule=schedule_id(found.tenant, found.order_id),
        tenant=found.tenant,
        order_id=found.order_id,
        subscriber_ref=found.subscriber_ref,
        operation=found.operation,
        at=found.not_before.astimezone(UTC),
    )


def _scheduled(order: AnyOrder, found: ApiOrder) -> ScheduledOrder | None:
    if found.status not in (AcceptedState.WAITING, AcceptedState.SCHEDULED) or found.not_before is None:
        return None
    return to_scheduled(found) if found.not_before > datetime.now(UTC) else None


def _has_ended(found: ApiOrder) -> bool:
    return found.result is not None or found.status in ENDED_WITHOUT_RESULT


def _outcome(found: ApiOrder) -> OrderResult:
    match found.status:
        case AcceptedState.REFUSED:
            raise OrderRefusedError(found.reason)
        case AcceptedState.CANCELLED:
            raise OrderRefusedError(f"Order {found.order_id} never began. {found.reason}")
    if found.result is None:
        raise RunLostError(
            f"The run of order {found.order_id} was ended from outside. A later order of the subscriber has taken over "
            "what it left."
        )
    return found.result
