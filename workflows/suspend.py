"""The workflow of a suspend order."""

from temporalio import workflow

from lastmile.contract import OrderResult, SuspendSubscriber
from lastmile.contract.operations import SUSPEND
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["SuspendWorkflow"]


@workflow.defn(name=SUSPEND.workflow)
class SuspendWorkflow(OrderWorkflow):
    """Suspend a subscriber's line."""

    @workflow.init
    def __init__(self, order: SuspendSubscriber | None = None) -> None:
        self._saga = Saga(order, SUSPEND.steps)

    @workflow.run
    async def run(self, order: SuspendSubscriber | None = None) -> OrderResult:
        return await self._saga.run()
