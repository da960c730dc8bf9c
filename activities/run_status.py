"""Ask Temporal whether the run of an activity still wants it: a run sees a cancel only between workflow tasks."""

from datetime import timedelta

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from lastmile.errors import OutageError

__all__ = ["is_wanted"]

TIMEOUT = timedelta(seconds=5)


async def is_wanted() -> bool:
    """Return whether the run of this activity goes on, without a request to cancel it. Raises `OutageError`."""
    info = activity.info()
    assert info.workflow_id is not None  # Lastmile starts activities from workflows only
    run = activity.client().get_workflow_handle(info.workflow_id, run_id=info.workflow_run_id)
    try:
        found = await run.describe(rpc_timeout=TIMEOUT)
    except RPCError as failure:
        raise OutageError(
            f"Temporal did not say whether the run was cancelled ({failure.status.name}). A worker needs the right to "
            "describe runs."
        ) from failure
    running = found.status is WorkflowExecutionStatus.RUNNING
    return running and not found.raw_description.workflow_extended_info.cancel_requested
