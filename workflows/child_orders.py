"""Start the workflow of an order from another workflow."""

from temporalio import workflow
from temporalio.workflow import ChildWorkflowHandle, ParentClosePolicy

from lastmile.contract import AnyOrder
from lastmile.contract.operations import order_type
from workflows.start_options import memo, priority, search_attributes, summary

__all__ = ["start_order"]


async def start_order(order: AnyOrder) -> ChildWorkflowHandle[object, object]:
    """Start the order under the subscriber's workflow id. It goes on when the calling workflow ends.

    Raises:
        WorkflowAlreadyStartedError: another operation of the subscriber is running.
    """
    return await workflow.start_child_workflow(
        order_type(order).workflow,
        order,
        id=order.workflow_id,
        parent_close_policy=ParentClosePolicy.ABANDON,
        memo=memo(order),
        search_attributes=search_attributes(order),
        static_summary=summary(order),
        priority=priority(order),
    )
