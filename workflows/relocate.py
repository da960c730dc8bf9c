"""The workflow of a relocate order."""

from temporalio import workflow

from lastmile.contract import OrderResult, RelocateLine
from lastmile.contract.operations import RELOCATE
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["RelocateWorkflow"]


@workflow.defn(name=RELOCATE.workflow)
class RelocateWorkflow(OrderWorkflow):
    """Move a line to another place in the access network."""

    @workflow.init
    def __init__(self, order: RelocateLine | None = None) -> None:
        self._saga = Saga(order, RELOCATE.steps)

    @workflow.run
    async def run(self, order: RelocateLine | None = None) -> OrderResult:
        return await self._saga.run()
