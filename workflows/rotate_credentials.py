"""The workflow of a rotate_credentials order."""

from temporalio import workflow

from lastmile.contract import OrderResult, RotateCredentials
from lastmile.contract.operations import ROTATE_CREDENTIALS
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["RotateCredentialsWorkflow"]


@workflow.defn(name=ROTATE_CREDENTIALS.workflow)
class RotateCredentialsWorkflow(OrderWorkflow):
    """Give a line another password."""

    @workflow.init
    def __init__(self, order: RotateCredentials | None = None) -> None:
        self._saga = Saga(order, ROTATE_CREDENTIALS.steps)

    @workflow.run
    async def run(self, order: RotateCredentials | None = None) -> OrderResult:
        return await self._saga.run()
