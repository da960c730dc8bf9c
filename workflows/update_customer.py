"""The workflow of an update_customer order."""

from temporalio import workflow

from lastmile.contract import OrderResult, UpdateCustomer
from lastmile.contract.operations import UPDATE_CUSTOMER
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga

__all__ = ["UpdateCustomerWorkflow"]


@workflow.defn(name=UPDATE_CUSTOMER.workflow)
class UpdateCustomerWorkflow(OrderWorkflow):
    """Correct the data of a subscriber's customer."""

    @workflow.init
    def __init__(self, order: UpdateCustomer | None = None) -> None:
        self._saga = Saga(order, UPDATE_CUSTOMER.steps)

    @workflow.run
    async def run(self, order: UpdateCustomer | None = None) -> OrderResult:
        return await self._saga.run()
