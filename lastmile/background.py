"""Work in the background of a process."""

import asyncio
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import ClassVar, Self

import structlog

__all__ = ["BackgroundTask", "Sweeper"]

log = structlog.get_logger("lastmile.background")


class BackgroundTask(ABC):
    """A task that runs in the background within `async with`, and is cancelled at the end of the block."""

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])

    @abstractmethod
    async def _run(self) -> None:
        """Work until the cancellation. After a failure that does not end the task, return where `_ends`."""

    @property
    def _ends(self) -> bool:
        """Whether the task was cancelled. A failure at that moment replaces the cancellation, which comes only once."""
        return self._running.cancelling() > 0


class Sweeper(BackgroundTask):
    """A background task that sweeps after each pause. A failure is logged, and does not end the task."""

    pause: ClassVar[timedelta]
    away: ClassVar[tuple[type[Exception], ...]]
    """The failures of a system that does not answer: one line in the log."""
    unavailable: ClassVar[str]
    """The event of the log for such a failure."""
    failed: ClassVar[str]
    """The event of the log for any other failure."""

    @abstractmethod
    async def sweep(self) -> None:
        """Do all that waits."""

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except self.away as failure:
                log.warning(self.unavailable, reason=type(failure).__name__)
            except Exception:  # a failure must neither end the background task nor stay out of the log
                log.exception(self.failed)
            if self._ends:
                return
            await asyncio.sleep(self.pause.total_seconds())
