"""What looks after the platform by itself: the snapshot for the metrics, and the audit.

The third, the cleanup, is in `workflows.cleanup`; when each of them runs, in `workflows.schedules`.
"""

from datetime import timedelta

from temporalio import workflow

from workflows.upkeep import call

__all__ = ["Metrics"]

SNAPSHOT_ATTEMPT = timedelta(seconds=30)


@workflow.defn(name="Metrics")
class Metrics:
    """Take every figure once, for all workers to show."""

    @workflow.run
    async def run(self) -> None:
        await call("take_snapshot", "take the figures", returns=None, attempt=SNAPSHOT_ATTEMPT)
