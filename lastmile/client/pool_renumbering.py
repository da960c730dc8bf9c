"""Renumberings of pools: start one, see where it stands, follow, pause, resume and stop it."""

import uuid
from collections.abc import AsyncIterator
from typing import Any, Literal

from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client import answer_time
from lastmile.client.availability import START_PATIENCE_SECONDS, retry_unavailable
from lastmile.client.errors import AlreadyRunningError, NotRunningError, RenumberingStoppedError
from lastmile.client.followed_run import follow
from lastmile.client.operator_client import OperatorClient
from lastmile.contract import Decision
from lastmile.contract.pool_renumbering import PoolRenumbering, RenumberingProgress, RenumberingStatus
from lastmile.errors import UnavailableError
from lastmile.fields.phrases import format_time
from workflows.failure_details import message_of
from workflows.search_attributes import OPERATION

__all__ = ["RenumberingAction", "RenumberingRun", "find_renumbering", "start_renumbering"]

OPERATION_NAME = "renumber_pool"

RenumberingAction = Literal["pause", "resume", "stop"]


class RenumberingRun:
    """The newest renumbering of a pool."""

    def __init__(self, handle: WorkflowHandle[Any, RenumberingProgress], pool: str) -> None:
        self.handle = handle
        self._pool = pool

    async def progress(self) -> RenumberingProgress:
        """Return where the renumbering stands. A worker answers, also after the end."""
        progress: RenumberingProgress = await self.handle.query(
            "progress", result_type=RenumberingProgress, rpc_timeout=answer_time.ANSWER_TIME
        )
        return progress

    def follow(self) -> AsyncIterator[str]:
        """Say what the renumbering does, whenever that differs, until it has ended."""

        async def ask() -> str:
            return _describe(await self.progress())

        return follow(self.handle, ask, what="renumbering")

    async def result(self) -> RenumberingProgress:
        """Wait for the end. Raises `RenumberingStoppedError` where the run was cancelled or terminated."""
        try:
            return await retry_unavailable(self.handle.result)
        except WorkflowFailureError as failure:
            if isinstance(failure.cause, ApplicationError) and failure.cause.details:
                return RenumberingProgress.model_validate(failure.cause.details[0])
            raise RenumberingStoppedError(
                f"The renumbering of pool {self._pool} was ended from outside ({message_of(failure.cause)}). Orders "
                "that were started go on. Start it again: it goes on with the lines that are left."
            ) from failure

    async def decide(self, action: RenumberingAction, decision: Decision) -> str:
        """Pause, resume or stop the renumbering, and return its answer.

        Raises `NotRunningError` where the run does not take it, and `UnavailableError` where no worker answers within
        `ANSWER_TIME`: the run follows the decision when a worker is back.
        """
        if (await self.handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
            raise NotRunningError(f"No renumbering of pool {self._pool} is running.")
        try:
            return str(
                await self.handle.execute_update(action, decision, result_type=str, rpc_timeout=answer_time.ANSWER_TIME)
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            raise UnavailableError(
                f"The decision was sent, and no worker has answered within {answer_time.ANSWER_TIME.seconds} s. "
                f"The renumbering of pool {self._pool} follows it when a worker is back: do not send it again."
            ) from None
        except WorkflowUpdateFailedError as failure:
            cause = failure.cause
            words = cause.message if isinstance(cause, ApplicationError) else str(cause)
            raise NotRunningError(f"Pool {self._pool}: {words}") from failure


def _describe(progress: RenumberingProgress) -> str:
    """Return the progress in one line."""
    until = f" until {format_time(progress.waits_until)}" if progress.waits_until else ""
    counts = f"{progress.renumbered:,} renumbered, {progress.failed:,} failed"
    paused = progress.status is RenumberingStatus.PAUSED
    return f"{counts}; {progress.words if paused else f'{progress.status}{until}: {progress.words}'}"


async def start_renumbering(operator: OperatorClient, request: PoolRenumbering) -> RenumberingRun:
    """Start the renumbering of the pool. Raises `AlreadyRunningError` while one of the pool is running."""
    id_ = _id(operator, request.pool_id)
    start = uuid.uuid4().hex

    async def send() -> None:
        await operator.client.start_workflow(
            "RenumberPool",
            request,
            id=id_,
            task_queue=operator.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            memo={"start": start, "requested_by": request.requested_by},
            search_attributes=TypedSearchAttributes([SearchAttributePair(OPERATION, OPERATION_NAME)]),
            static_summary=f"renumber pool {request.pool} to pool {request.target}",
        )

    try:
        await retry_unavailable(send, START_PATIENCE_SECONDS)
    except WorkflowAlreadyStartedError:
        # Perhaps by this request, and the reply was lost.
        found = await operator.client.get_workflow_handle(id_).describe()
        if await found.memo_value("start", default=None) != start:
            raise AlreadyRunningError(
                f"A renumbering of pool {request.pool} is running, as Temporal workflow {id_}: "
                f"`lastmile renumbering show {request.pool}` shows it."
            ) from None
    return _run(operator, id_, request.pool)


async def find_renumbering(operator: OperatorClient, pool: str, pool_id: int) -> RenumberingRun:
    """Return the newest renumbering of the pool, running or ended. Raises `NotRunningError` if there is none."""
    found = _run(operator, _id(operator, pool_id), pool)
    try:
        await found.handle.describe()
    except RPCError as failure:
        if failure.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise NotRunningError(
            f"Pool {pool} is not being renumbered. `lastmile renumber-pool {pool} --to POOL` begins a renumbering."
        ) from None
    return found


def _id(operator: OperatorClient, pool_id: int) -> str:
    """Return the workflow id of the renumberings of one pool: Temporal runs one of them at a time."""
    return f"{operator.task_queue}/renumber-pool/{pool_id}"


def _run(operator: OperatorClient, id_: str, pool: str) -> RenumberingRun:
    # Without a run id: the newest run, since a renumbering continues as new.
    return RenumberingRun(operator.client.get_workflow_handle(id_, result_type=RenumberingProgress), pool)
