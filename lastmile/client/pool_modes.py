"""Changes of a pool's NetBox mode: start one or attach to one, follow it, and wait for its end."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError, is_cancelled_exception
from temporalio.service import RPCError

from lastmile.client import answer_time
from lastmile.client.availability import AWAY, START_ATTEMPTS, START_PATIENCE_SECONDS, retry_unavailable
from lastmile.client.errors import AlreadyRunningError, ClientError
from lastmile.client.followed_run import follow
from lastmile.contract.pool_modes import PoolModeChange, PoolModeProgress
from lastmile.errors import OutageError
from workflows.failure_details import is_outage, message_of
from workflows.search_attributes import OPERATION

__all__ = ["PoolModeError", "PoolModeOutageError", "PoolModeRun", "change_pool_mode", "pool_mode_id"]

OPERATION_NAME = "change_pool_mode"


class PoolModeError(ClientError):
    """The change has stopped; the message says why, and how the pool is kept now."""


class PoolModeOutageError(PoolModeError, OutageError):
    """The change has stopped because NetBox or the database was away; the same change again continues."""


def pool_mode_id(task_queue: str, pool_id: int) -> str:
    """Return the workflow id of the changes of one pool: Temporal runs one of them at a time."""
    return f"{task_queue}/pool-mode/{pool_id}"


@dataclass(frozen=True, slots=True)
class PoolModeRun:
    """A change that was started, or found running."""

    handle: WorkflowHandle[Any, PoolModeProgress]
    attached: bool
    """The same change was running already."""

    def follow(self) -> AsyncIterator[str]:
        """Say what the change does, whenever that differs, until it has ended."""

        async def ask() -> str:
            return (await self.progress()).words

        return follow(self.handle, ask, what="change")

    async def progress(self) -> PoolModeProgress:
        """Return where the change stands. Needs a worker."""
        progress: PoolModeProgress = await self.handle.query(
            "progress", result_type=PoolModeProgress, rpc_timeout=answer_time.ANSWER_TIME
        )
        return progress

    async def result(self) -> PoolModeProgress:
        """Wait for the end. Raises `PoolModeError`, and `PoolModeOutageError` where a system was away."""
        try:
            return await retry_unavailable(self.handle.result)
        except WorkflowFailureError as failure:
            if is_cancelled_exception(failure.cause):
                raise PoolModeError(f"The change was {await self._cancelled()}.") from failure
            kind = PoolModeOutageError if is_outage(failure.cause) else PoolModeError
            raise kind(message_of(failure.cause)) from failure

    async def _cancelled(self) -> str:
        """Return how far the cancelled change came, as its run says."""
        try:
            return (await self.progress()).words
        except RPCError as failure:
            if failure.status not in AWAY:
                raise
            return "cancelled; no worker says how far it came, but `lastmile pool list` shows the mode"


async def change_pool_mode(client: Client, task_queue: str, change: PoolModeChange) -> PoolModeRun:
    """Start the change, or attach to the same change of the pool.

    Raises `AlreadyRunningError` where another change of the pool is running.
    """
    id_ = pool_mode_id(task_queue, change.pool_id)
    for _ in range(START_ATTEMPTS):
        try:
            started = await retry_unavailable(lambda: _start(client, task_queue, id_, change), START_PATIENCE_SECONDS)
            return PoolModeRun(started, attached=False)
        except WorkflowAlreadyStartedError:
            run = await client.get_workflow_handle(id_).describe()
            if run.status is not WorkflowExecutionStatus.RUNNING:
                continue
            if await run.memo_value("requested", default=None) != change.requested:
                raise AlreadyRunningError(
                    f"Another change of pool {change.pool} is running, as Temporal workflow {id_}: wait for it, or "
                    f"cancel it with `temporal workflow cancel --workflow-id {id_}`."
                ) from None
            handle = client.get_workflow_handle(id_, run_id=run.run_id, result_type=PoolModeProgress)
            return PoolModeRun(handle, attached=True)
    raise AlreadyRunningError(f"Other changes of pool {change.pool} keep starting: try again.")


async def _start(
    client: Client, task_queue: str, id_: str, change: PoolModeChange
) -> WorkflowHandle[Any, PoolModeProgress]:
    started: WorkflowHandle[Any, PoolModeProgress] = await client.start_workflow(
        "ChangePoolMode",
        change,
        id=id_,
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        result_type=PoolModeProgress,
        memo={"requested": change.requested, "requested_by": change.requested_by},
        search_attributes=TypedSearchAttributes([SearchAttributePair(OPERATION, OPERATION_NAME)]),
        static_summary=f"change the NetBox mode of pool {change.pool}",
    )
    return client.get_workflow_handle(id_, run_id=started.result_run_id, result_type=PoolModeProgress)
