"""The parked runs: they wait for an operator's decision."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from temporalio.client import Client, WorkflowExecution, WorkflowQueryFailedError
from temporalio.service import RPCError

from lastmile.client import answer_time
from lastmile.client.availability import describe_silence
from lastmile.contract import Parked, Progress
from lastmile.contract.operations import STEP_NAMES
from lastmile.encryption.keys import DecryptionError
from lastmile.errors import InvalidInputError
from lastmile.validation_messages import suggest_name
from workflows.search_attributes import ATTENTION, OPERATION, STEP, TENANT

__all__ = ["ParkedRun", "parked_orders", "parked_runs"]

_NO_WORKER = describe_silence(TimeoutError())


@dataclass(frozen=True, slots=True)
class ParkedRun:
    """A parked run."""

    workflow_id: str
    run_id: str
    tenant: str
    subscriber_ref: str
    order_id: str
    operation: str
    step: str
    """The parked step."""
    started_at: datetime
    """The start of the run, which can be long before it was parked."""
    attention: str
    """The failure; empty where it is unknown."""
    parked: Parked | None
    """The same for programs, with the attempts and the time of the first failure."""
    unknown: str = ""
    """Why the failure is unknown: no worker answers, or this process lacks the encryption key."""


async def parked_runs(
    client: Client, task_queue: str, tenant: str | None = None, step: str | None = None
) -> AsyncIterator[ParkedRun]:
    """Yield the parked runs of a task queue: all, or those of one tenant or at one step, in no order.

    Temporal lists a new one after a moment.

    Raises:
        InvalidInputError: no order has a step of this name.
        RPCError: Temporal does not list them.
    """
    if step is not None and step not in STEP_NAMES:
        raise InvalidInputError(f"No order has a step {step!r}. {suggest_name(step, STEP_NAMES)}".rstrip())
    unknown = ""
    async for found in _list(client, task_queue, tenant, step):
        progress = None
        if unknown != _NO_WORKER:  # otherwise none answers for this run either
            progress, unknown = await _progress(client, found)
        attributes = found.typed_search_attributes
        yield ParkedRun(
            workflow_id=found.id,
            run_id=found.run_id,
            tenant=attributes[TENANT],
            subscriber_ref=found.id.rpartition("/")[2],
            order_id=await _order_id(found),
            operation=attributes[OPERATION],
            step=attributes.get(STEP, ""),
            started_at=found.start_time,
            attention=progress.attention if progress else "",
            parked=progress.parked if progress else None,
            unknown=unknown,
        )


async def parked_orders(client: Client, task_queue: str, tenant: str | None = None) -> list[tuple[str, str]]:
    """Return the tenant and the order id of each parked run. It costs less than `parked_runs`: no run is asked."""
    return [
        (found.typed_search_attributes[TENANT], await _order_id(found))
        async for found in _list(client, task_queue, tenant)
    ]


def _list(
    client: Client, task_queue: str, tenant: str | None = None, step: str | None = None
) -> AsyncIterator[WorkflowExecution]:
    filters = {"TaskQueue": task_queue, TENANT.name: tenant, STEP.name: step}
    query = f'{ATTENTION.name} = true AND ExecutionStatus = "Running"'
    query += "".join(f' AND {name} = "{value}"' for name, value in filters.items() if value is not None)
    return client.list_workflows(query)


async def _order_id(found: WorkflowExecution) -> str:
    """Return the id of the run's order; empty for a run of no order, and where this process lacks the key."""
    try:
        return str(await found.memo_value("order_id", default=""))
    except DecryptionError:
        return ""


async def _progress(client: Client, found: WorkflowExecution) -> tuple[Progress | None, str]:
    """Return the progress of the run, or why it is unknown."""
    handle = client.get_workflow_handle(found.id, run_id=found.run_id)
    try:
        return await handle.query("progress", result_type=Progress, rpc_timeout=answer_time.ANSWER_TIME), ""
    except (RPCError, WorkflowQueryFailedError, DecryptionError) as failure:
        return None, describe_silence(failure)
