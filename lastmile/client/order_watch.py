"""The orders that listeners of one process follow. One task reads them all, however many listeners follow each."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog

from lastmile.background import BackgroundTask
from lastmile.client.order_steering import read_progress
from lastmile.client.orders import Lastmile
from lastmile.contract import Progress
from lastmile.db import Database
from lastmile.services.records.orders import OrderRecord, find_order_records
from lastmile.subscribers.orders import OrderStatus

__all__ = ["OrderWatch", "WatchedOrder"]

INTERVAL_SECONDS = 0.5
PROGRESS_SECONDS = 3
"""How long a worker may take to answer for the steps of an order."""
CONCURRENT_QUERIES = 8

OPEN = (OrderStatus.RUNNING, OrderStatus.ROLLING_BACK)

Key = tuple[str, str]

log = structlog.get_logger("lastmile.orders")


@dataclass(frozen=True, slots=True)
class WatchedOrder:
    """An order as it is now."""

    record: OrderRecord
    progress: Progress | None
    """The progress of its run; None where the order is not open, or no worker answers."""


@dataclass(slots=True)
class _Watched:
    """What the listeners of one order share."""

    listeners: int = 0
    state: WatchedOrder | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    asked: bool = False
    """Whether a worker is asked for the progress of the order."""

    async def publish(self, state: WatchedOrder) -> None:
        """Give the listeners a new state. An open order is not published after its end."""
        if self.state is not None and self.state.record.result is not None and state.record.result is None:
            return
        async with self.changed:
            self.state = state
            self.changed.notify_all()


class OrderWatch(BackgroundTask):
    """Reads the followed orders in the background within `async with`."""

    def __init__(self, database: Database, lastmile: Lastmile) -> None:
        self._database = database
        self._lastmile = lastmile
        self._watched: dict[Key, _Watched] = {}
        self._wanted = asyncio.Event()
        self._queries = asyncio.Semaphore(CONCURRENT_QUERIES)

    async def follow(self, tenant: str, order_id: str) -> AsyncIterator[WatchedOrder]:
        """Yield the order, and again whenever it has changed, without an end."""
        key = tenant, order_id
        watched = self._watched.setdefault(key, _Watched())
        watched.listeners += 1
        self._wanted.set()
        seen: WatchedOrder | None = None
        try:
            while True:
                async with watched.changed:
                    while watched.state is None or watched.state == seen:
                        await watched.changed.wait()
                    seen = watched.state
                yield seen
        finally:
            watched.listeners -= 1
            if not watched.listeners:
                self._watched.pop(key, None)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as queries:
            while True:
                await self._wanted.wait()
                if not self._watched:
                    self._wanted.clear()
                    continue
                try:
                    await self._read(queries)
                except Exception:  # the listeners wait; a failure must not end the task that serves them all
                    log.exception("order.watch_failed")
                if self._ends:
                    return
                await asyncio.sleep(INTERVAL_SECONDS)

    async def _read(self, queries: asyncio.TaskGroup) -> None:
        """Read all orders from the database. Workers answer for open ones in their own time, and delay no other."""
        for record in await find_order_records(self._database, list(self._watched)):
            watched = self._watched.get((record.tenant, record.order_id))
            if watched is None:
                continue
            if record.status not in OPEN:
                await watched.publish(WatchedOrder(record, None))
            elif not watched.asked:
                watched.asked = True
                queries.create_task(self._ask(record, watched))

    async def _ask(self, record: OrderRecord, watched: _Watched) -> None:
        progress: Progress | None = None
        try:
            async with self._queries:
                asked = read_progress(self._lastmile, record.tenant, record.subscriber_ref, record.order_id)
                progress = await asyncio.wait_for(asked, PROGRESS_SECONDS)
        except TimeoutError:
            pass
        except Exception:
            log.exception("order.watch_failed")
        finally:
            watched.asked = False
        await watched.publish(WatchedOrder(record, progress))
