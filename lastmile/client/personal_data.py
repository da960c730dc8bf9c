"""Forgetting a former customer, in the database and in Temporal."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, ScheduleListDescription, WorkflowExecutionStatus
from temporalio.client import WorkflowExecution as Run
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.availability import AWAY
from lastmile.contract import workflow_id
from lastmile.db import Database
from lastmile.encryption.keys import DecryptionError
from lastmile.errors import UnavailableError
from lastmile.subscribers import personal_data
from lastmile.subscribers.personal_data import FormerSubscribers
from workflows.search_attributes import TENANT

__all__ = ["ForgottenCustomer", "forget_customer"]


@dataclass(frozen=True, slots=True)
class ForgottenCustomer:
    """A customer whose personal data was deleted."""

    ref: str
    subscribers: list[str]
    """The subscribers that were once the customer's."""
    runs: int
    """The ended runs whose histories Temporal deletes, because they contain orders of the customer."""


async def forget_customer(
    database: Database, client: Client, tenant: str, customer_ref: str, *, actor: str
) -> ForgottenCustomer:
    """Delete the personal data of a former customer everywhere. A repeated call does what the first has left.

    Raises:
        UnknownCustomerError: there is no such customer.
        CustomerInServiceError: the customer has lines in service, or orders that have not ended.
        DecryptionError: this process lacks the key that tells whose a scheduled order is. Nothing is deleted.
        UnavailableError: Temporal is away; the data in the database is deleted.
    """
    async with database.tenant(tenant, actor=actor) as connection:
        former = await personal_data.forget_customer(connection, customer_ref)
        scheduled = _ScheduledOrders(client, tenant, customer_ref, former)
        if waiting := await scheduled.waiting():
            raise personal_data.orders_remain(customer_ref, waiting)
    try:
        await scheduled.delete_schedules()
        runs = [run async for run in _ended_runs(client, tenant, former.once)]
        runs += [run async for run in scheduled.ended_runs()]
        deleted = [await _delete(client, run) for run in runs]
    except RPCError as failure:
        if failure.status not in AWAY:
            raise
        raise UnavailableError(
            f"The personal data of customer {customer_ref} is deleted from the database, and not yet from Temporal, "
            "which does not answer. Repeat the request when Temporal is back."
        ) from None
    return ForgottenCustomer(customer_ref, former.once, sum(deleted))


@dataclass(frozen=True, slots=True)
class _ScheduledOrders:
    """The Schedules of a customer's orders, and the runs that these have started. Both contain the orders."""

    client: Client
    tenant: str
    customer_ref: str
    former: FormerSubscribers

    async def waiting(self) -> list[str]:
        """Return the ids of the orders that a Schedule holds, or that wait for their subscriber."""
        found: list[ScheduleListDescription | Run] = [one async for one in self._schedules() if _waits(one)]
        found += [run async for run in self._runs() if _waits(run)]
        mine = [order for order in found if await self._is_of(order, self.former.unclaimed)]
        return sorted({await order.memo_value("order_id") for order in mine})

    async def delete_schedules(self) -> None:
        """Delete the Schedules whose time has come: Temporal keeps each for some days."""
        async for found in self._schedules():
            if not _waits(found) and await self._was_of_customer(found):
                try:
                    await self.client.get_schedule_handle(found.id).delete()
                except RPCError as failure:
                    if failure.status is not RPCStatusCode.NOT_FOUND:
                        raise

    async def ended_runs(self) -> AsyncIterator[Run]:
        """Yield the runs that have started an order of the customer."""
        async for run in self._runs():
            if not _waits(run) and await self._was_of_customer(run):
                yield run

    async def _schedules(self) -> AsyncIterator[ScheduleListDescription]:
        async for found in await self.client.list_schedules(f"{TENANT.name} = '{self.tenant}'"):
            yield found

    def _runs(self) -> AsyncIterator[Run]:
        return self.client.list_workflows(f"WorkflowType = 'ScheduledStart' AND {TENANT.name} = '{self.tenant}'")

    async def _was_of_customer(self, found: ScheduleListDescription | Run) -> bool:
        """Return whether the ended order is of the customer; False also where this process cannot decrypt it."""
        try:
            return await self._is_of(found, self.former.once)
        except DecryptionError:
            return False

    async def _is_of(self, found: ScheduleListDescription | Run, subscribers: Collection[str]) -> bool:
        if await found.memo_value("subscriber_ref", default="") in subscribers:
            return True
        return bool(await found.memo_value("customer_ref", default="") == self.customer_ref)


def _waits(found: ScheduleListDescription | Run) -> bool:
    if isinstance(found, Run):
        return found.status is WorkflowExecutionStatus.RUNNING
    return bool(found.info and found.info.next_action_times)


async def _ended_runs(client: Client, tenant: str, subscribers: Collection[str]) -> AsyncIterator[Run]:
    for subscriber in subscribers:
        async for run in client.list_workflows(f"WorkflowId = '{workflow_id(tenant, subscriber)}'"):
            # The list is late: it shows a run that has just ended as running.
            if not _waits(run) or not _waits(await client.get_workflow_handle(run.id, run_id=run.run_id).describe()):
                yield run


async def _delete(client: Client, run: Run) -> bool:
    execution = WorkflowExecution(workflow_id=run.id, run_id=run.run_id)
    request = DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=execution)
    try:
        await client.workflow_service.delete_workflow_execution(request)
    except RPCError as failure:
        if failure.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False  # deleted before, and still in the list
    return True
