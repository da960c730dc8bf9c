"""The workflow of a renumber order."""

from temporalio import workflow

from lastmile.contract import OrderResult, Renumber
from lastmile.contract.operations import RENUMBER
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["RenumberWorkflow"]


@workflow.defn(name=RENUMBER.workflow)
class RenumberWorkflow(OrderWorkflow):
    """Give a line another prefix, with an overlap."""

    @workflow.init
    def __init__(self, order: Renumber | None = None) -> None:
        self._saga = Saga(order, RENUMBER.steps)

    @workflow.run
    async def run(self, order: Renumber | None = None) -> OrderResult:
        return await self._saga.run()
