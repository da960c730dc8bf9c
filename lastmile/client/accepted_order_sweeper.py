"""The sweeper of a worker: it starts accepted orders that the process which accepted them has not started.

Such an order waits for its subscriber, or Temporal was away, or the process has ended.
"""

import asyncio
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from lastmile.background import Sweeper
from lastmile.client.accepted_order_starts import (
    SCHEDULE_LOOK,
    StartOutcome,
    open_body,
    start_accepted_order,
)
from lastmile.client.errors import NotScheduledError
from lastmile.client.orders import Lastmile
from lastmile.client.temporal.connection import TemporalUnreachableError
from lastmile.db import Database
from lastmile.encryption.keys import DecryptionError, KeyRing
from lastmile.subscribers.accepted_orders import (
    AcceptedOrder,
    cancel_accepted_order,
    claim_scheduled_orders,
    claim_waiting_orders,
    mark_scheduled,
    release_claim,
)
from lastmile.subscribers.orders import OPENING_FENCE

__all__ = ["AcceptedOrderSweeper"]

INTERVAL = timedelta(seconds=2)
AGE = timedelta(seconds=5)
"""The age of an order at which a sweeper takes it: a younger one is being started by the process that accepted it."""
LEASE = timedelta(seconds=30)
"""The end of a claim, for the orders of a worker that ends. A started order is looked at again then."""
BUSY_PAUSE = timedelta(minutes=1)
"""How often an order is tried while another order of the subscriber is open: the run of that one may be lost."""
BATCH = 64
CONCURRENT_STARTS = 8
SCHEDULE_PAST = timedelta(hours=1)
"""How long after its time the Schedule of an order is looked at. Later its run waits for the subscriber."""

AWAY = (TemporalUnreachableError, TimeoutError, OSError, SQLAlchemyError)
"""The failures while Temporal or PostgreSQL does not answer."""

log = structlog.get_logger("lastmile.orders")


class AcceptedOrderSweeper(Sweeper):
    """Starts accepted orders in the background within `async with`. Every worker runs one; their claims exclude."""

    pause, away = INTERVAL, AWAY
    unavailable, failed = "order.sweep_unavailable", "order.sweep_failed"

    def __init__(
        self, database: Database, lastmile: Lastmile, keys: KeyRing | None = None, *, age: timedelta = AGE
    ) -> None:
        self._database = database
        self._lastmile = lastmile
        self._keys = keys
        self._age = age

    async def sweep(self) -> None:
        """Start the orders that wait, and look at the Schedules of others. Raises one of `AWAY`."""
        while await self.start_waiting() == BATCH:
            pass
        await self.look_at_schedules()

    async def start_waiting(self) -> int:
        """Claim orders that wait and start them. Return how many were claimed.

        Raises one of `AWAY` where Temporal or PostgreSQL does not answer; the claims end then.
        """
        async with self._database.platform() as connection:
            claimed = await claim_waiting_orders(
                connection, age=self._age, lease=LEASE, busy_pause=BUSY_PAUSE, batch=BATCH
            )
        free = asyncio.Semaphore(CONCURRENT_STARTS)
        try:
            async with asyncio.TaskGroup() as starts:
                for order in claimed:
                    starts.create_task(self._start(order, free))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return len(claimed)

    async def _start(self, accepted: AcceptedOrder, free: asyncio.Semaphore) -> None:
        about = {"tenant": accepted.tenant, "order_id": accepted.order_id}
        try:
            order = open_body(accepted, self._keys)
            async with free:
                outcome = await start_accepted_order(self._database, self._lastmile, order)
        except (asyncio.CancelledError, *AWAY):
            await self._release(accepted)
            raise
        except DecryptionError as failure:
            log.error("order.unreadable", **about, reason=str(failure))
        except Exception:  # the failure of one order must not keep the others; its claim ends by itself
            log.exception("order.not_started", **about)
        else:
            if outcome is StartOutcome.BUSY:
                await self._release(accepted)

    async def _release(self, accepted: AcceptedOrder) -> None:
        """End the claim now."""
        async with self._database.tenant(accepted.tenant) as connection:
            await release_claim(connection, accepted.order_id, accepted.digest)

    async def look_at_schedules(self) -> None:
        """Record which scheduled orders were moved, and which were cancelled, since their Schedules were looked at."""
        async with self._database.platform() as connection:
            claimed = await claim_scheduled_orders(connection, past=SCHEDULE_PAST, lease=SCHEDULE_LOOK, batch=BATCH)
        for accepted in claimed:
            await self._look_at_schedule(accepted)

    async def _look_at_schedule(self, accepted: AcceptedOrder) -> None:
        order_id, digest = accepted.order_id, accepted.digest
        try:
            at: datetime | None = await self._lastmile.scheduled.next_start(accepted.tenant, order_id)
        except NotScheduledError:
            async with self._database.tenant(
                accepted.tenant, order_id=order_id, subscriber_ref=accepted.subscriber_ref, fence=OPENING_FENCE
            ) as connection:
                reason = "The Temporal Schedule that held the order was deleted before it started."
                await cancel_accepted_order(connection, order_id, digest, reason)
            return
        if at is not None:
            async with self._database.tenant(accepted.tenant) as connection:
                await mark_scheduled(connection, order_id, digest, at, look_after=SCHEDULE_LOOK)
