"""The workflow that resumes lines whose suspension has reached its end. `client/schedules/plans` says when it runs.

The database holds the end of each suspension. So the end survives a loss of Temporal's data, and an earlier resume
order needs no timer to be cancelled. If a resume order fails, a later run sends another one.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.maintenance.messages import DueOrders
from lastmile.contract import ResumeSubscriber, ResumptionResult
from lastmile.contract.maintenance import Cursor
from workflows.child_orders import start_order
from workflows.maintenance.activity_call import call

__all__ = ["Resumption"]

ATTEMPT = timedelta(seconds=30)
PAGES = 5
"""The pages of 200 lines that one run starts; the next run starts the others."""


@workflow.defn(name="Resumption")
class Resumption:
    """Start a resume order for each line that is to resume by itself."""

    @workflow.run
    async def run(self) -> ResumptionResult:
        """Start the orders, and leave a subscriber with a running operation to the next run."""
        started = busy = 0
        after: Cursor | None = None
        for _ in range(PAGES):
            due: DueOrders = await call(
                "find_due_resumptions", "find the lines to resume", after, returns=DueOrders, attempt=ATTEMPT
            )
            begun = await asyncio.gather(*map(_start, due.orders))
            started, busy = started + begun.count(True), busy + begun.count(False)
            if (after := due.after) is None:
                break
        return ResumptionResult(started=started, busy=busy)


async def _start(order: ResumeSubscriber) -> bool:
    """Start the order. Return False if another operation of the subscriber is running."""
    try:
        await start_order(order)
    except WorkflowAlreadyStartedError:
        return False
    return True
