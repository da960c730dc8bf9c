"""The daily cleanup, started by an operator with limits of its own."""

from collections.abc import Callable

from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from lastmile.client.availability import retry_unavailable
from lastmile.client.errors import AlreadyRunningError, CleanupStoppedError
from lastmile.client.operator_client import OperatorClient
from lastmile.contract import Cleanup, CleanupResult
from lastmile.errors import UnavailableError

__all__ = ["run_cleanup"]


async def run_cleanup(operator: OperatorClient, limits: Cleanup, started: Callable[[str], None]) -> CleanupResult:
    """Run the cleanup, and wait until it has ended; call `started` with the id of its run.

    Raises `AlreadyRunningError` while another manual cleanup runs, `CleanupStoppedError`, and `UnavailableError`
    without a worker.
    """
    if shortage := await operator.worker_shortage():
        raise UnavailableError(f"The cleanup was not started. {shortage}")
    id_ = f"{operator.task_queue}/cleanup-by-hand"
    try:
        run = await operator.client.start_workflow(
            "StalePrefixCleanup", limits, id=id_, task_queue=operator.task_queue, result_type=CleanupResult
        )
    except WorkflowAlreadyStartedError:
        raise AlreadyRunningError(f"A cleanup that was started by hand is running, as {id_}: wait for it.") from None
    started(id_)
    try:
        result: CleanupResult = await retry_unavailable(run.result)
    except WorkflowFailureError as failure:
        # A cleanup with errors fails with its result: Temporal shows the run as failed.
        if not (isinstance(failure.cause, ApplicationError) and failure.cause.details):
            raise CleanupStoppedError(f"The cleanup was stopped before its end: {failure.cause}") from failure
        result = CleanupResult.model_validate(failure.cause.details[0])
    return result
