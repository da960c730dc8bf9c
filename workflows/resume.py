"""The workflow of a resume order."""

from temporalio import workflow

from lastmile.contract import OrderResult, ResumeSubscriber
from lastmile.contract.operations import RESUME
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["ResumeWorkflow"]


@workflow.defn(name=RESUME.workflow)
class ResumeWorkflow(OrderWorkflow):
    """Put a suspended line into service again."""

    @workflow.init
    def __init__(self, order: ResumeSubscriber | None = None) -> None:
        self._saga = Saga(order, RESUME.steps)

    @workflow.run
    async def run(self, order: ResumeSubscriber | None = None) -> OrderResult:
        return await self._saga.run()
