"""Work in the background of a process."""

import asyncio
from abc import ABC, abstractmethod
from typing import Self

__all__ = ["BackgroundTask"]


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
