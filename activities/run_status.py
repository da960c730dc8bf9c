"""Ask Temporal whether the run of an activity still wants it: a run sees a cancel only between workflow tasks."""

from datetime import timedelta

from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.service import RPCError

from lastmile.errors import OutageError

__all__ = ["is_wanted"]

TIMEOUT = timedelta(seconds=5)


async def is_wanted() -> bool:
    """Return whether the run of this activity goes on, without a request to cancel it. Raises `OutageError`."""
    info, client = activity.info(), activity.client()
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or ""),
    )
    try:
        found = await client.workflow_service.describe_workflow_execution(request, timeout=TIMEOUT)
    except RPCError as failure:
        raise OutageError(
            f"Temporal did not say whether the run was cancelled ({failure.status.name}). A worker needs the right to "
            "describe runs."
        ) from failure
    running = found.workflow_execution_info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
    return running and not found.workflow_extended_info.cancel_requested
