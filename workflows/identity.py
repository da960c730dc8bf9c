"""Check the workflow id of a run: two operations on one subscriber exclude each other by this id."""

from temporalio import workflow
from temporalio.exceptions import ApplicationError

__all__ = ["check_workflow_id"]


def check_workflow_id(expected: str, what: str) -> None:
    """Raise unless this run has the subscriber's workflow id.

    A run under another id would run beside the subscriber's run, and would take over its order.

    Args:
        expected: The subscriber's workflow id.
        what: The input of the run, for the message.
    """
    actual = workflow.info().workflow_id
    if actual != expected:
        raise ApplicationError(
            f"{what} was started under the workflow id {actual}. Start it under {expected}: "
            "Temporal runs one operation per subscriber by that id.",
            type="WrongWorkflowId",
            non_retryable=True,
        )
