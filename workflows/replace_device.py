"""The workflow of a replace_device order."""

from temporalio import workflow

from lastmile.contract import OrderResult, ReplaceDevice
from lastmile.contract.operations import REPLACE_DEVICE
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["ReplaceDeviceWorkflow"]


@workflow.defn(name=REPLACE_DEVICE.workflow)
class ReplaceDeviceWorkflow(OrderWorkflow):
    """Put another ONU or CPE into service on a line."""

    @workflow.init
    def __init__(self, order: ReplaceDevice | None = None) -> None:
        self._saga = Saga(order, REPLACE_DEVICE.steps)

    @workflow.run
    async def run(self, order: ReplaceDevice | None = None) -> OrderResult:
        return await self._saga.run()
