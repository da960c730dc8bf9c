"""The workflow id of a subscriber, on which the exclusion of two operations on one subscriber rests."""

from temporalio import workflow
from temporalio.exceptions import ApplicationError

__all__ = ["check_workflow_id"]


def check_workflow_id(expected: str, what: str) -> None:
    """Raise unless this run has the subscriber's workflow id.

    A run under another id would work beside the subscriber's run, and would take over its order.

    Args:
        expected: The subscriber's workflow id.
        what: What the run is started with, for a person.
    """
    actual = workflow.info().workflow_id
    if actual != expected:
        raise ApplicationError(
            f"{what} was started under the workflow id {actual}. Start it under {expected}: "
            "Temporal runs one operation per subscriber by that id.",
            type="WrongWorkflowId",
            non_retryable=True,
        )
