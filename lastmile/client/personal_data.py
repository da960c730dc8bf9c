"""Forgetting a former customer, in the database and in Temporal."""

from collections.abc import Sequence
from dataclasses import dataclass

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.availability import AWAY
from lastmile.contract import workflow_id
from lastmile.db import Database
from lastmile.errors import UnavailableError
from lastmile.subscribers import personal_data

__all__ = ["ForgottenCustomer", "forget_customer"]


@dataclass(frozen=True, slots=True)
class ForgottenCustomer:
    """A customer whose personal data was deleted."""

    ref: str
    subscribers: list[str]
    """The subscribers that were once the customer's."""
    runs: int
    """The ended runs whose histories Temporal deletes, because they contain orders of these subscribers."""


async def forget_customer(
    database: Database, client: Client, tenant: str, customer_ref: str, *, actor: str
) -> ForgottenCustomer:
    """Delete the personal data of a former customer everywhere. A repeated call does what the first has left.

    Raises:
        UnknownCustomerError: there is no such customer.
        CustomerInServiceError: the customer has lines in service.
        UnavailableError: Temporal is away; the data in the database is deleted.
    """
    async with database.tenant(tenant, actor=actor) as connection:
        subscribers = await personal_data.forget_customer(connection, customer_ref)
    try:
        runs = await _delete_histories(client, tenant, subscribers)
    except RPCError as failure:
        if failure.status not in AWAY:
            raise
        raise UnavailableError(
            f"The personal data of customer {customer_ref} is deleted from the database, and not yet from Temporal, "
            "which does not answer. Repeat the request when Temporal is back."
        ) from None
    return ForgottenCustomer(customer_ref, subscribers, runs)


async def _delete_histories(client: Client, tenant: str, subscribers: Sequence[str]) -> int:
    """Delete the ended runs of the subscribers. Return their number."""
    deleted = 0
    for subscriber in subscribers:
        query = f"WorkflowId = '{workflow_id(tenant, subscriber)}'"
        async for run in client.list_workflows(query):
            if run.status is not WorkflowExecutionStatus.RUNNING:
                deleted += await _delete(client, WorkflowExecution(workflow_id=run.id, run_id=run.run_id))
    return deleted


async def _delete(client: Client, run: WorkflowExecution) -> bool:
    request = DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=run)
    try:
        await client.workflow_service.delete_workflow_execution(request)
    except RPCError as failure:
        if failure.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False  # deleted before, and still in the list
    return True
