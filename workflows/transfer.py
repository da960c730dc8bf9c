"""The workflow of a transfer order."""

from temporalio import workflow

from lastmile.contract import OrderResult, TransferLine
from lastmile.contract.operations import TRANSFER
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["TransferWorkflow"]


@workflow.defn(name=TRANSFER.workflow)
class TransferWorkflow(OrderWorkflow):
    """Give a line to another customer."""

    @workflow.init
    def __init__(self, order: TransferLine | None = None) -> None:
        self._saga = Saga(order, TRANSFER.steps)

    @workflow.run
    async def run(self, order: TransferLine | None = None) -> OrderResult:
        return await self._saga.run()
