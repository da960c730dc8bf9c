"""The workflow of a provision order."""

from temporalio import workflow

from lastmile.contract import OrderResult, ProvisionSubscriber
from lastmile.contract.operations import PROVISION
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["ProvisionWorkflow"]


@workflow.defn(name=PROVISION.workflow)
class ProvisionWorkflow(OrderWorkflow):
    """Turn an order into a working line."""

    @workflow.init
    def __init__(self, order: ProvisionSubscriber | None = None) -> None:
        self._saga = Saga(order, PROVISION.steps)

    @workflow.run
    async def run(self, order: ProvisionSubscriber | None = None) -> OrderResult:
        return await self._saga.run()
