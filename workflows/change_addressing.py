"""The workflow of a change_addressing order."""

from temporalio import workflow

from lastmile.contract import ChangeAddressing, OrderResult
from lastmile.contract.operations import CHANGE_ADDRESSING
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["ChangeAddressingWorkflow"]


@workflow.defn(name=CHANGE_ADDRESSING.workflow)
class ChangeAddressingWorkflow(OrderWorkflow):
    """Change the addresses of a line."""

    @workflow.init
    def __init__(self, order: ChangeAddressing | None = None) -> None:
        self._saga = Saga(order, CHANGE_ADDRESSING.steps)

    @workflow.run
    async def run(self, order: ChangeAddressing | None = None) -> OrderResult:
        return await self._saga.run()
