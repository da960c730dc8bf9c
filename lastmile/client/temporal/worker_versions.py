"""The worker version that gets new orders (Temporal's Worker Versioning)."""

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client

__all__ = ["current_build", "describe", "make_current"]


async def describe(client: Client, task_queue: str) -> DescribeTaskQueueResponse:
    """Return the pollers of the task queue and its current version. Raises `RPCError`."""
    return await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )


async def current_build(client: Client, task_queue: str) -> str:
    """Return the build id that new orders go to; empty for workers without one. Raises `RPCError`."""
    return (await describe(client, task_queue)).versioning_info.current_deployment_version.build_id


def make_current(deployment: str, build_id: str) -> str:
    """Return the command that directs new orders to this version."""
    return f"temporal worker deployment set-current-version --deployment-name {deployment} --build-id {build_id}"
