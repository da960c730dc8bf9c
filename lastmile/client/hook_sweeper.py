"""The sweeper of events by webhook: it maps the events of processes that stopped between commit and mapping.

Most CRMs send an event only once, so that no repeat would continue such an event.
"""

from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from lastmile.background import Sweeper
from lastmile.client.hook_intake import HookIntake
from lastmile.db import Database
from lastmile.encryption.keys import DecryptionError
from lastmile.services.hooks.events import HookEvent, HookEventState, list_events
from lastmile.services.hooks.sources import HookSource, list_sources

__all__ = ["HookSweeper"]

INTERVAL = timedelta(seconds=30)
AGE = timedelta(minutes=1)
"""The age of an event at which a sweeper takes it: a younger one is being mapped by the process that received it."""

log = structlog.get_logger("lastmile.hooks")


class HookSweeper(Sweeper):
    """Maps received events in the background within `async with`. Every worker runs one.

    Two sweepers may take the same event: its order ids are the same.
    """

    pause, away = INTERVAL, (OSError, TimeoutError, SQLAlchemyError)
    unavailable, failed = "hook.sweep_unavailable", "hook.sweep_failed"

    def __init__(self, database: Database, intake: HookIntake, *, age: timedelta = AGE) -> None:
        self._database = database
        self._intake = intake
        self._age = age

    async def sweep(self) -> None:
        """Map the events that wait for it."""
        await self.order_received()

    async def order_received(self) -> int:
        """Map the events that wait for it, the oldest first. Return their number."""
        waiting = await list_events(self._database, states=[HookEventState.RECEIVED], age=self._age)
        if not waiting:
            return 0
        sources = {(source.tenant, source.name): source for source in await list_sources(self._database)}
        for event in waiting:
            if source := sources.get((event.tenant, event.source)):
                await self._order(source, event)
        return len(waiting)

    async def _order(self, source: HookSource, event: HookEvent) -> None:
        try:
            await self._intake.order(source, event)
        except DecryptionError as failure:  # the other events must not wait for the key of this one
            log.error("hook.unreadable", tenant=event.tenant, source=event.source, number=event.id, reason=str(failure))
