"""The parked runs: they wait for an operator's decision."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from lastmile.contract import Parked, Progress
from workflows.search_attributes import ATTENTION, OPERATION, STEP, TENANT

__all__ = ["ParkedRun", "parked_runs"]

# A worker answers within milliseconds, and the list must come while none runs, too.
PATIENCE = timedelta(seconds=3)


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
    """The failure; empty where no worker answers."""
    parked: Parked | None
    """The same for programs, with the attempts and the time of the first failure."""


async def parked_runs(
    client: Client, task_queue: str, tenant: str | None = None, step: str | None = None
) -> AsyncIterator[ParkedRun]:
    """Yield the parked runs of a task queue: all, or those of one tenant or at one step, in no order.

    Temporal lists a new one after a moment. Raises `RPCError`.
    """
    wanted = {"TaskQueue": task_queue, TENANT.name: tenant, STEP.name: step}
    query = f'{ATTENTION.name} = true AND ExecutionStatus = "Running"'
    query += "".join(f' AND {name} = "{value}"' for name, value in wanted.items() if value is not None)
    answered = True
    async for found in client.list_workflows(query):
        progress = await _progress(client, found) if answered else None
        answered = progress is not None
        attributes = found.typed_search_attributes
        yield ParkedRun(
            workflow_id=found.id,
            run_id=found.run_id,
            tenant=attributes[TENANT],
            subscriber_ref=found.id.rpartition("/")[2],
            order_id=await found.memo_value("order_id", default=""),
            operation=attributes[OPERATION],
            step=attributes.get(STEP, ""),
            started_at=found.start_time,
            attention=progress.attention if progress else "",
            parked=progress.parked if progress else None,
        )


async def _progress(client: Client, found: WorkflowExecution) -> Progress | None:
    """Return the progress of the run; None where no worker answers, and then none will for the next run."""
    handle = client.get_workflow_handle(found.id, run_id=found.run_id)
    try:
        progress: Progress = await handle.query("progress", result_type=Progress, rpc_timeout=PATIENCE)
    except RPCError:
        return None
    return progress
