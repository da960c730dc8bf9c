"""The events of an order for server-sent events, derived from its present state.

The events need no storage: any process derives the same ones, so a listener that comes back with `Last-Event-ID` gets
those that it has missed from any process.
"""

from collections.abc import AsyncIterator, Iterator

from fastapi.sse import ServerSentEvent

from lastmile.api.order_models import Order
from lastmile.client.order_watch import OrderWatch, WatchedOrder
from lastmile.subscribers.accepted_orders import ENDED_WITHOUT_RESULT

__all__ = ["order_events"]


async def order_events(
    watch: OrderWatch, tenant: str, order_id: str, last_event_id: str | None
) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of the order until it has ended, without those up to `last_event_id`."""
    sent: set[str] = set()
    async for state in watch.follow(tenant, order_id):
        events = list(_events(state))
        ids = [event.id for event in events]
        if last_event_id in ids:
            sent.update(id_ for id_ in ids[: ids.index(last_event_id) + 1] if id_)
            last_event_id = None
        for event in events:
            if event.id and event.id not in sent:
                sent.add(event.id)
                yield event
        if events and events[-1].event == "ended":
            return


def _events(state: WatchedOrder) -> Iterator[ServerSentEvent]:
    """Yield what has happened to the order so far: its steps, that it is parked, its end."""
    record, progress = state.record, state.progress
    result = record.result or (progress.result if progress else None)
    for step in result.steps if result else progress.steps if progress else ():
        if step.outcome is not None:
            yield ServerSentEvent(event="step", id=f"{step.step}.{step.outcome}", data=step)
    if progress is not None and progress.parked is not None:
        parked = progress.parked
        yield ServerSentEvent(event="parked", id=f"parked.{parked.step}.{parked.since.isoformat()}", data=parked)
    if record.result is not None or record.status in ENDED_WITHOUT_RESULT:
        yield ServerSentEvent(event="ended", id="ended", data=Order.recorded(record))
