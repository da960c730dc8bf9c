"""Read from Temporal how the renumberings of pools stand, for the metrics snapshot."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import structlog
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError

from lastmile.client import answer_time
from lastmile.client.availability import describe_silence
from lastmile.contract.pool_renumbering import RenumberingProgress
from lastmile.encryption.keys import DecryptionError
from lastmile.telemetry.snapshot import Sample

__all__ = ["read_renumbering_metrics"]

# A renumbering continues as new many times: the run that did so has a successor.
_RUNS = "WorkflowType = 'RenumberPool' AND TaskQueue = '{queue}' AND ExecutionStatus != 'ContinuedAsNew'"
_SHOWN = {WorkflowExecutionStatus.RUNNING: 0, WorkflowExecutionStatus.FAILED: 1}
"""The statuses that the metrics show, and whether the run has stopped by itself."""

log = structlog.get_logger("lastmile.metrics")


async def read_renumbering_metrics(client: Client, task_queue: str) -> list[Sample]:
    """Return the metrics of the newest renumbering of each pool, if it runs or has stopped by itself.

    A renumbering that no worker answers for is left out. Raises `RPCError` where Temporal lists no runs.
    """
    newest: dict[str, WorkflowExecution] = {}
    async for run in client.list_workflows(_RUNS.format(queue=task_queue)):
        if run.id not in newest or run.start_time > newest[run.id].start_time:
            newest[run.id] = run
    return [sample for run in newest.values() if run.status in _SHOWN async for sample in _samples(client, run)]


async def _samples(client: Client, run: WorkflowExecution) -> AsyncIterator[Sample]:
    handle = client.get_workflow_handle(run.id, run_id=run.run_id)
    try:
        progress = await handle.query("progress", result_type=RenumberingProgress, rpc_timeout=answer_time.ANSWER_TIME)
    except (RPCError, WorkflowQueryFailedError, DecryptionError) as failure:
        log.warning("metrics_snapshot.renumbering_unknown", workflow_id=run.id, reason=describe_silence(failure))
        return
    pool = {"pool": progress.pool, "tenant": progress.tenant}
    lines = {
        "renumbered": progress.renumbered,
        "failed": progress.failed,
        "in_flight": progress.in_flight,
        "to_start": progress.to_start,
    }
    for standing, number in lines.items():
        yield Sample("lastmile_pool_renumbering_lines", pool | {"standing": standing}, number)
    paused = datetime.now(UTC) - progress.paused_at if progress.paused_at else None
    yield Sample("lastmile_pool_renumbering_paused_seconds", pool, max(0, paused.total_seconds()) if paused else 0)
    assert run.status is not None
    yield Sample("lastmile_pool_renumbering_stopped", pool, _SHOWN[run.status])
