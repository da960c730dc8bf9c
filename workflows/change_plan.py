"""The workflow of a change_plan order."""

from temporalio import workflow

from lastmile.contract import ChangePlan, OrderResult
from lastmile.contract.operations import CHANGE_PLAN
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["ChangePlanWorkflow"]


@workflow.defn(name=CHANGE_PLAN.workflow)
class ChangePlanWorkflow(OrderWorkflow):
    """Give a line another plan."""

    @workflow.init
    def __init__(self, order: ChangePlan | None = None) -> None:
        self._saga = Saga(order, CHANGE_PLAN.steps)

    @workflow.run
    async def run(self, order: ChangePlan | None = None) -> OrderResult:
        return await self._saga.run()
