"""The workflow that a Temporal Schedule starts for an order with a `not_before`. It starts the order in its turn.

A Schedule appends a time to the workflow ids that it starts, so its run cannot hold the subscriber's id. This run
starts the order under that id as soon as no other operation holds it.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import WorkflowAlreadyStartedError

from lastmile.contract import AnyOrder, Operation
from lastmile.contract.operations import OPERATIONS
from workflows.child_orders import start_order

__all__ = ["ScheduledStart"]

PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=1)
# Each attempt is three events: this keeps the history of a run small.
ATTEMPTS_PER_RUN = 500


@workflow.defn(name="ScheduledStart")
class ScheduledStart:
    """Wait until the subscriber is free, and start the order."""

    @workflow.run
    async def run(self, operation: Operation, content: RawValue) -> None:
        """Start the order whose JSON is `content`. The operation says which model it has: two may look alike."""
        order: AnyOrder = workflow.payload_converter().from_payload(content.payload, OPERATIONS[operation].model)
        pause = PAUSE
        for _ in range(ATTEMPTS_PER_RUN):
            try:
                handle = await start_order(order)
            except WorkflowAlreadyStartedError:
                workflow.set_current_details(f"Waiting: another operation on {order.subscriber_ref} is running.")
                await workflow.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                workflow.set_current_details(
                    f"Started as `{order.workflow_id}`, run `{handle.first_execution_run_id}`."
                )
                return
        workflow.continue_as_new(args=[operation, content])
