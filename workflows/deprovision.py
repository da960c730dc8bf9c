"""The workflow of a deprovision order."""

from temporalio import workflow

from lastmile.contract import DeprovisionSubscriber, OrderResult
from lastmile.contract.operations import DEPROVISION
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["DeprovisionWorkflow"]


@workflow.defn(name=DEPROVISION.workflow)
class DeprovisionWorkflow(OrderWorkflow):
    """Terminate a subscriber's service. After the addresses are revoked, the order only goes forward."""

    @workflow.init
    def __init__(self, order: DeprovisionSubscriber | None = None) -> None:
        self._saga = Saga(order, DEPROVISION.steps)

    @workflow.run
    async def run(self, order: DeprovisionSubscriber | None = None) -> OrderResult:
        return await self._saga.run()
