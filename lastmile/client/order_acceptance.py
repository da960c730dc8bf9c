"""Accept orders: commit each for the caller first, whether Temporal answers or not, and start it in the background.

What is not started here, since Temporal is away or this process ends, is started by the sweeper of a worker
(`lastmile.client.accepted_order_sweeper`).
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import structlog
from temporalio.service import RPCError

from lastmile.client.accepted_order_starts import START_TIME, StartOutcome, seal_body, start_accepted_order
from lastmile.client.errors import AlreadyRunningError, OrderIdReusedError
from lastmile.client.orders import Lastmile
from lastmile.client.temporal.connection import TemporalUnreachableError
from lastmile.contract import AnyOrder, OrderResult
from lastmile.db import Database
from lastmile.encryption.keys import KeyRing
from lastmile.services.credentials import store_password
from lastmile.services.order_admission import check_admission
from lastmile.subscribers.accepted_orders import (
    AcceptedState,
    EarlierOrder,
    KnownOrder,
    WhenBusy,
    find_earlier_order,
    find_order,
    insert_accepted_order,
)
from lastmile.subscribers.orders import OPENING_FENCE, OrderStatus, id_is_used

__all__ = ["Acceptance", "OrderAcceptance"]

CONCURRENT_STARTS = 16
OPEN = (OrderStatus.RUNNING, OrderStatus.ROLLING_BACK)
START_PAUSES = (0, 0.05, 0.1, 0.2, 0.4)
"""Seconds before each attempt to start an order whose subscriber is free in the database.

In Temporal, the run of the subscriber's order before may still be ending.
"""

log = structlog.get_logger("lastmile.orders")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An order that is accepted, or was before."""

    order: AnyOrder
    new: bool
    """Whether this call has accepted the order. False: it was accepted before."""
    status: str
    """A value of `AcceptedState` before a workflow opens the order, then one of `OrderStatus`."""
    at: datetime
    """When the order was accepted, or opened."""
    reason: str = ""
    """Why the order was refused or cancelled before it began; otherwise empty."""
    result: OrderResult | None = None
    """The result, if the order has ended."""
    behind: EarlierOrder | None = None
    """The order of the subscriber that must end first; None for an order that was accepted before."""


class OrderAcceptance:
    """The acceptance of orders by this process, which starts them in the background within `async with`."""

    def __init__(self, database: Database, lastmile: Lastmile, keys: KeyRing | None = None) -> None:
        """`keys` are those of Lastmile's workers, where these have any: they encrypt the accepted orders."""
        self._database = database
        self._lastmile = lastmile
        self._keys = keys
        self._free = asyncio.Semaphore(CONCURRENT_STARTS)
        self._starts: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for start in self._starts:
            start.cancel()
        await asyncio.gather(*self._starts, return_exceptions=True)

    async def known(self, tenant: str, order_id: str) -> bool:
        """Return whether the order is accepted or opened, or was."""
        async with self._database.tenant(tenant) as connection:
            return await find_order(connection, order_id) is not None

    async def check_free(self, tenant: str, subscriber_ref: str) -> None:
        """Raise `AlreadyRunningError` while an order of the subscriber runs or waits to be started now."""
        async with self._database.tenant(tenant) as connection:
            earlier = await find_earlier_order(connection, subscriber_ref)
        if earlier is not None:
            raise _busy(subscriber_ref, earlier)

    async def accept(self, order: AnyOrder, when_busy: WhenBusy = WhenBusy.REFUSE) -> Acceptance:
        """Accept the order: it is committed when this returns. The same order again returns its status or its result.

        An order that is not scheduled is checked against the subscriber's line first, unless it must wait for another
        order.

        Raises:
            OrderIdReusedError: the id belongs to an order with other content.
            AlreadyRunningError: another order of the subscriber is open, and `when_busy` is `refuse`.
            UnknownTenantError, UnknownSubscriberError, LineStateError, LineDiffersError: the order would be refused.
            InvalidInputError, GivenPasswordError: the password that the order gives cannot be stored.
        """
        order = await store_password(self._database, self._keys, order)
        async with self._database.tenant(
            order.tenant,
            actor=order.requested_by,
            order_id=order.order_id,
            subscriber_ref=order.subscriber_ref,
            fence=OPENING_FENCE,  # no order of the subscriber is opened or accepted meanwhile
        ) as connection:
            inserted = await insert_accepted_order(connection, order, when_busy, seal_body(order, self._keys))
            if known := inserted.known:
                found = _known(order, known)
                if known.status in OPEN:  # its run may have been terminated: then this start continues the order
                    self._start_soon(order)
                return found
            behind = inserted.earlier
            if inserted.at is None:
                assert behind is not None
                raise _busy(order.subscriber_ref, behind)
            if behind is None and not inserted.ahead:  # an order of a later date waits in its Schedule
                await check_admission(connection, order)
        if behind is None:
            self._start_soon(order)
        return Acceptance(order, new=True, status=AcceptedState.WAITING, at=inserted.at, behind=behind)

    def _start_soon(self, order: AnyOrder) -> None:
        start = asyncio.create_task(self._start(order))
        self._starts.add(start)
        start.add_done_callback(self._starts.discard)

    async def _start(self, order: AnyOrder) -> None:
        try:
            # A sweeper starts what has waited here for so long.
            async with asyncio.timeout(START_TIME.total_seconds()), self._free:
                for pause in START_PAUSES:
                    await asyncio.sleep(pause)
                    if await start_accepted_order(self._database, self._lastmile, order) is not StartOutcome.BUSY:
                        break
        except (TemporalUnreachableError, RPCError, TimeoutError) as failure:
            log.warning(
                "order.not_started", tenant=order.tenant, order_id=order.order_id, reason=type(failure).__name__
            )
        except Exception:
            log.exception("order.not_started", tenant=order.tenant, order_id=order.order_id)


def _known(order: AnyOrder, known: KnownOrder) -> Acceptance:
    if known.digest != order.digest:
        raise OrderIdReusedError(id_is_used(order.order_id, known.at, known.operation, known.subscriber_ref))
    result = None if known.result is None else OrderResult.model_validate(known.result)
    return Acceptance(order, new=False, status=known.status, at=known.at, reason=known.reason, result=result)


def _busy(subscriber_ref: str, earlier: EarlierOrder) -> AlreadyRunningError:
    state = "is open" if earlier.open else "was accepted and waits to be started"
    return AlreadyRunningError(
        f"Subscriber {subscriber_ref} is busy: {earlier.operation} order {earlier.order_id} {state}. "
        "Wait for it, cancel it, or send the order with when_busy 'wait'.",
        order_id=earlier.order_id,
        operation=earlier.operation,
    )
