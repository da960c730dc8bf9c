"""Steer an order by its id: cancel it in whatever state it is, or change it while it is scheduled."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog
from temporalio.client import WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.accepted_order_starts import SCHEDULE_LOOK
from lastmile.client.errors import NotRunningError, NotScheduledError, PastPivotError
from lastmile.client.orders import Lastmile
from lastmile.contract import Progress, RunStatus, Urgency, workflow_id
from lastmile.contract.operations import OPERATIONS
from lastmile.contract.steps import pivot_of
from lastmile.db import Database
from lastmile.encryption.keys import DecryptionError
from lastmile.errors import UnavailableError
from lastmile.services.records.orders import OrderRecord, read_order_record
from lastmile.subscribers.accepted_orders import (
    ENDED_WITHOUT_RESULT,
    AcceptedState,
    cancel_accepted_order,
    find_order,
    mark_scheduled,
)
from lastmile.subscribers.errors import OrderFencedError
from lastmile.subscribers.orders import CANCELLING_FENCE, OPENING_FENCE

__all__ = ["cancel_order", "change_scheduled_order", "read_progress"]

CHANGE_SECONDS = 5
"""How long a change waits for Temporal. No order of the subscriber is opened meanwhile."""

log = structlog.get_logger("lastmile.orders")


async def cancel_order(
    database: Database, lastmile: Lastmile, tenant: str, order_id: str, *, actor: str, reason: str
) -> bool:
    """Cancel the order. Return True where it had not begun, and False where its run was asked to roll back.

    Raises:
        NotRunningError: there is no such order, or it has ended.
        PastPivotError: the order can only go forward.
    """
    async with database.tenant(tenant) as connection:
        known = await find_order(connection, order_id)
    if known is None:
        raise NotRunningError(f"There is no order {order_id} of tenant {tenant}.")
    if known.status == AcceptedState.CANCELLED:
        return True
    if known.result is not None or known.status in ENDED_WITHOUT_RESULT:
        raise NotRunningError(
            f"Order {order_id} has ended ({known.status.replace('_', ' ')}), and cannot be cancelled. "
            "Send another order to change the line."
        )
    words = f"Cancelled by {actor}: {reason}"
    try:
        async with database.tenant(
            tenant, actor=actor, order_id=order_id, subscriber_ref=known.subscriber_ref, fence=CANCELLING_FENCE
        ) as connection:
            cancelled = await cancel_accepted_order(connection, order_id, known.digest, words)
    except OrderFencedError:
        cancelled = False  # a run is opening the order: it takes the cancel afterwards
    if cancelled:  # from here on no run can open the order: its Schedule is of no use
        await _delete_schedule(lastmile, tenant, order_id)
        return True
    await _cancel_run(lastmile, tenant, known.subscriber_ref, order_id)
    log.info("order.cancel_asked", tenant=tenant, order_id=order_id, by=actor, reason=reason)
    return False


async def _delete_schedule(lastmile: Lastmile, tenant: str, order_id: str) -> None:
    try:
        await lastmile.scheduled.cancel(tenant, order_id)
    except NotScheduledError:
        pass
    except (RPCError, RuntimeError) as failure:
        log.warning("order.schedule_left", tenant=tenant, order_id=order_id, reason=type(failure).__name__)


async def _cancel_run(lastmile: Lastmile, tenant: str, subscriber_ref: str, order_id: str) -> None:
    ended = NotRunningError(
        f"Order {order_id} is not running: it has ended, or another order of the subscriber begins at this moment."
    )
    id_ = workflow_id(tenant, subscriber_ref)
    try:
        run = await lastmile.client.get_workflow_handle(id_).describe()
    except RPCError as failure:
        if failure.status is RPCStatusCode.NOT_FOUND:
            raise ended from None
        raise
    if run.status is not WorkflowExecutionStatus.RUNNING or await run.memo_value("order_id", default="") != order_id:
        raise ended
    progress = await read_progress(lastmile, tenant, subscriber_ref, order_id)
    if progress is not None and _past_pivot(progress):
        raise PastPivotError(
            f"Order {order_id} is past its point of no return (step {progress.step}): it can only go forward. "
            "Send another order when it has ended."
        )
    await lastmile.client.get_workflow_handle(id_, run_id=run.run_id).cancel()


def _past_pivot(progress: Progress) -> bool:
    names = [step.name for step in OPERATIONS[progress.operation].steps]
    forward = names[pivot_of(OPERATIONS[progress.operation].steps) :]
    begun = {step.step for step in progress.steps if step.outcome is not None} | {progress.step}
    return progress.status is not RunStatus.ROLLING_BACK and bool(begun.intersection(forward))


async def read_progress(lastmile: Lastmile, tenant: str, subscriber_ref: str, order_id: str) -> Progress | None:
    """Return the progress of the order's run; None where no worker answers, or the run is another order's."""
    try:
        progress = await lastmile.progress(tenant, subscriber_ref)
    except (RPCError, RuntimeError, TimeoutError, WorkflowQueryFailedError, DecryptionError):
        return None
    return progress if progress is not None and progress.order_id == order_id else None


async def change_scheduled_order(
    database: Database,
    lastmile: Lastmile,
    order: OrderRecord,
    *,
    at: datetime | None,
    urgency: Urgency | None,
    actor: str,
    check: Callable[[OrderRecord], None],
) -> None:
    """Change the start time or the urgency of a scheduled order, or both. None: as it is.

    `check` may refuse: it gets the order as it is, and nothing else changes the order meanwhile.

    Raises:
        NotScheduledError: the order is not scheduled any more.
        UnavailableError: Temporal does not answer.
    """
    tenant, order_id = order.tenant, order.order_id
    async with database.tenant(
        tenant, actor=actor, order_id=order_id, subscriber_ref=order.subscriber_ref, fence=OPENING_FENCE
    ) as connection:
        known, record = await find_order(connection, order_id), await read_order_record(connection, order_id)
        if known is None or record is None:
            raise NotScheduledError(f"No order {order_id} of tenant {tenant} is scheduled.")
        check(record)
        try:
            async with asyncio.timeout(CHANGE_SECONDS):
                if urgency is not None:
                    held = await lastmile.scheduled.set_urgency(tenant, order_id, urgency)
                if at is not None:
                    held = await lastmile.scheduled.move(tenant, order_id, at)
        except TimeoutError:
            raise UnavailableError(
                f"Temporal does not answer within {CHANGE_SECONDS} s, and may have changed order {order_id}. Repeat "
                "the request."
            ) from None
        await mark_scheduled(connection, order_id, known.digest, held.at, look_after=SCHEDULE_LOOK, urgency=urgency)
