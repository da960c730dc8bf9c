"""Starts what otherwise a schedule starts, and brings about what it is for."""

from typing import Any

import asyncpg
from temporalio.client import WorkflowHandle

from workflows.client import Lastmile
from workflows.contract import Cleanup, CleanupResult

__all__ = ["Maintenance", "aged"]

AT_ONCE = Cleanup(revoked_days=90, allocated_hours=0, revoking_hours=0)
"""Whatever is allocated or being revoked has been so for too long."""


class Maintenance:
    """On the test's own task queue."""

    def __init__(self, lastmile: Lastmile, name: str) -> None:
        self._lastmile = lastmile
        self._name = name

    async def start(self, workflow: str, *content: Any, returns: type | None = None) -> WorkflowHandle[Any, Any]:
        return await self._lastmile.client.start_workflow(
            workflow,
            args=content,
            id=f"{self._name}/{workflow}",
            task_queue=self._name,
            result_type=returns,
        )

    async def cleanup(self, *wanted: Cleanup) -> CleanupResult:
        """By default with the limits of every day."""
        run = await self.start("StalePrefixCleanup", *wanted, returns=CleanupResult)
        result: CleanupResult = await run.result()
        return result


async def aged(owner: asyncpg.Connection, days: float) -> None:
    """Everything that is over has been so for so long."""
    await owner.execute("UPDATE delegations SET released_at = released_at - $1 * interval '1 day'", days)
