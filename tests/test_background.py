"""Tests of work in the background."""

import asyncio

from lastmile.background import BackgroundTask


class _Stubborn(BackgroundTask):
    """Work that fails when it is cancelled, as a driver does, and that goes on after failures."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.failures = 0

    async def _run(self) -> None:
        while True:
            self.began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.failures += 1  # the failure that replaces the cancellation
            if self._ends:
                return


async def test_task_whose_failure_replaces_the_cancellation_ends() -> None:
    async with asyncio.timeout(60), _Stubborn() as task:
        await task.began.wait()
    assert task.failures == 1
