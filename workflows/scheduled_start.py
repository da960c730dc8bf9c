"""An order for a later date: the run that a Schedule starts, which starts the real one in its turn.

A Schedule appends a time to the workflow ids that it starts, so what it starts cannot hold the subscriber's id.
This run does nothing but start the order under that id, once no other operation holds it.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from lastmile.contract import AnyOrder
from lastmile.contract.operations import order_type
from workflows.start_options import memo, priority, search_attributes, summary

__all__ = ["Dispatch"]

PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=1)
# Each try is three events; a run's history stays small.
TRIES_PER_RUN = 500


@workflow.defn(name="Dispatch")
class Dispatch:
    @workflow.run
    async def run(self, order: AnyOrder) -> None:
        pause = PAUSE
        for _ in range(TRIES_PER_RUN):
            try:
                handle = await workflow.start_child_workflow(
                    order_type(order).workflow,
                    order,
                    id=order.workflow_id,
                    parent_close_policy=ParentClosePolicy.ABANDON,
                    memo=memo(order),
                    search_attributes=search_attributes(order),
                    static_summary=summary(order),
                    priority=priority(order),
                )
            except WorkflowAlreadyStartedError:
                workflow.set_current_details(f"Waiting: another operation on {order.subscriber_ref} is running.")
                await workflow.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                workflow.set_current_details(
                    f"Started as `{order.workflow_id}`, run `{handle.first_execution_run_id}`."
                )
                return
        workflow.continue_as_new(order)
