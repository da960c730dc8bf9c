"""Create the Schedules when a worker starts, and retry those that fail."""

import asyncio
from collections.abc import Sequence
from typing import Self

import structlog
from temporalio.service import RPCError

from lastmile.client.schedules.manager import CreateOutcome, ScheduleManager
from lastmile.client.schedules.plans import SCHEDULES, Plan

__all__ = ["ScheduleBootstrap"]

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Seconds until the next try; each pause is twice the one before."""

log = structlog.get_logger("lastmile.worker")


class ScheduleBootstrap:
    """Creates the Schedules on entry, and retries the missing ones in the background until the end of `async with`.

    Orders run without Schedules: no failure keeps a worker from starting, or stops it.
    """

    def __init__(self, manager: ScheduleManager) -> None:
        self._manager = manager

    async def __aenter__(self) -> Self:
        missing = await self._make(SCHEDULES)
        self._running = asyncio.create_task(self._go_on(missing))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])

    async def _go_on(self, missing: Sequence[Plan]) -> None:
        pause = FIRST_PAUSE
        while missing:
            await asyncio.sleep(pause)
            missing = await self._make(missing)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _make(self, plans: Sequence[Plan]) -> Sequence[Plan]:
        """Create the Schedules, and return those that failed."""
        return [plan for plan in plans if not await self._made(plan)]

    async def _made(self, plan: Plan) -> bool:
        schedule = self._manager.id_of(plan.name)
        try:
            made = await self._manager.make(plan)
        except RPCError as failure:
            log.warning("worker.schedule_not_made", schedule=schedule, reason=str(failure))
            return False
        except Exception:
            log.exception("worker.schedule_not_made", schedule=schedule)
            return False
        if made is not CreateOutcome.UNCHANGED:
            log.info(f"worker.schedule_{made}", schedule=schedule)
        return True
