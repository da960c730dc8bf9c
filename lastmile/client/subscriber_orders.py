"""What Temporal knows about one subscriber: the running order, its progress, and the scheduled orders."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError

from lastmile.client import answer_time
from lastmile.client.availability import describe_silence
from lastmile.client.operator_client import OperatorClient
from lastmile.client.scheduled_orders import ScheduledOrder, describe_unreadable
from lastmile.client.temporal.connection import TemporalUnreachableError
from lastmile.contract import Progress, RunStatus
from lastmile.encryption.keys import DecryptionError

__all__ = ["SubscriberOrders", "find_subscriber_orders"]

_UNANSWERED = (TemporalUnreachableError, RPCError, WorkflowQueryFailedError, TimeoutError, DecryptionError)


@dataclass
class SubscriberOrders:
    """The orders of a subscriber that have not ended."""

    order: str = ""
    """The type and id of the running order."""
    run: Progress | None = None
    """The progress of the running order."""
    trouble: str = ""
    """What the running order waits for, or why its progress is unknown."""
    scheduled: list[ScheduledOrder] = field(default_factory=list)


async def find_subscriber_orders(
    connect: Callable[[], Awaitable[OperatorClient]], tenant: str, subscriber: str
) -> SubscriberOrders:
    """Ask Temporal about the subscriber. `trouble` says so if Temporal or a worker does not answer."""
    found = SubscriberOrders()
    try:
        operator = await connect()
        found.order = await operator.open_order(tenant, subscriber)
        if found.order and (shortage := await operator.worker_shortage()):
            found.trouble = f"{found.order} has been started and waits. {shortage}"
        elif found.order:
            async with asyncio.timeout(answer_time.ANSWER_TIME.total_seconds()):
                progress = await operator.orders.progress(tenant, subscriber)
                found.trouble = await operator.pending_retry(tenant, subscriber)
            found.run = progress if progress and progress.status is not RunStatus.ENDED else None
    except _UNANSWERED as failure:
        if found.order:
            found.trouble = f"Where {found.order} stands is not known: {describe_silence(failure)}."
        else:
            found.trouble = f"Whether an order is running or scheduled is not known: {_reason(failure)}"
        return found
    try:
        async with asyncio.timeout(answer_time.ANSWER_TIME.total_seconds()):
            scheduled = await operator.orders.scheduled.of_subscriber(tenant, subscriber)
    except _UNANSWERED as failure:
        found.trouble = f"{found.trouble} Whether an order is scheduled is not known: {_reason(failure)}".lstrip()
        return found
    found.scheduled = [order for order in scheduled if not order.unreadable]
    if words := describe_unreadable(scheduled):
        found.trouble = f"{found.trouble} {words}".lstrip()
    return found


def _reason(failure: Exception) -> str:
    return str(failure) or f"Temporal did not answer within {answer_time.ANSWER_TIME.seconds} s."
