"""What all activities share: transactions behind the order's fence, failures with a type, and reports."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.current_step import began_at, grouped_step
from activities.messages import BEYOND_DATABASE, OUTAGE, StepContext, StepReport
from ipam.order_scope import OrderScope
from lastmile.contract.results import StepOutcome
from lastmile.db import Database, Fence, TenantConnection
from lastmile.db.direct import savepoint
from lastmile.db.failures import describe_failure
from lastmile.errors import NonRetryableError, OutageError
from lastmile.subscribers import previous_values
from lastmile.subscribers.orders import COMPENSATION_FENCE, STEP_FENCE

__all__ = [
    "Activities",
    "beyond_database",
    "done",
    "failing_by_type",
    "heartbeating",
    "maintenance_activity",
    "skipped",
    "step",
    "taken",
    "time_left",
    "undone",
    "warned",
]

# A fraction of the heartbeat timeout in workflows/step_activity.py.
HEARTBEAT_SECONDS = 5

P = ParamSpec("P")
R = TypeVar("R")


class Activities:
    """The base of the activity classes. Each class has the activities of one system, on injected clients."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def _order(self, ref: StepContext) -> AsyncIterator[TenantConnection]:
        """Open a transaction behind the order's fence. Raise `OrderFencedError` where the step may not act.

        In a group of steps, the transaction is a savepoint of the group's.
        """
        if (grouped := grouped_step()) is not None:
            async with savepoint(grouped.connection):
                yield grouped.connection
            return
        async with self._enter(ref, COMPENSATION_FENCE if ref.undo else STEP_FENCE) as connection:
            yield connection

    def _enter(self, ref: StepContext, fence: Fence | None = None) -> AbstractAsyncContextManager[TenantConnection]:
        """Open a transaction of the order behind the fence."""
        return self._database.tenant(
            ref.tenant,
            actor=ref.requested_by,
            order_id=ref.order_id,
            subscriber_ref=ref.subscriber_ref,
            fence=fence,
        )

    async def _keep(
        self, connection: TenantConnection, ref: StepContext, step_name: str, value: Mapping[str, Any]
    ) -> None:
        """Keep what the step is about to replace, for its undo. A repeated call changes nothing."""
        await previous_values.keep(connection, ref.tenant, ref.order_id, ref.subscriber_ref, step_name, value)

    def _scope(self, ref: StepContext, *, replaced: bool = False) -> OrderScope:
        """Return the order of the step, as IPAM knows it; `replaced`: it works on replaced prefixes only."""
        return OrderScope(
            tenant=ref.tenant,
            subscriber_ref=ref.subscriber_ref,
            order_id=ref.order_id,
            undo=ref.undo,
            replaced=replaced,
            transaction=lambda: self._order(ref),
            leave_database=beyond_database,
        )


def beyond_database(what: str) -> None:
    """Decline to run in a group of steps: the step is about to call another system, to do `what`.

    Call this inside the transaction, before that call. A group is for the database alone: it has no heartbeat, no
    cancel reaches it, and no operator sees its steps until it has ended. Raises `ApplicationError` in a group, and the
    workflow then runs the step as an activity of its own.
    """
    if grouped_step() is not None:
        raise ApplicationError(
            f"To {what}, this step runs as an activity of its own.",
            type=BEYOND_DATABASE,
            category=ApplicationErrorCategory.BENIGN,  # nothing to log
        )


def taken() -> float:
    """Return the seconds since the workflow scheduled the step, with all attempts and pauses."""
    return max(0.0, (datetime.now(UTC) - began_at()).total_seconds())


@asynccontextmanager
async def heartbeating() -> AsyncIterator[None]:
    """Send heartbeats, so that the server knows that the activity is alive and can send it a cancel."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


def failing_by_type(run: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Raise failures as `ApplicationError` with their type and the attempt. Never retry a `NonRetryableError`."""

    @functools.wraps(run)
    async def attempt(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await run(*args, **kwargs)
        except ApplicationError:
            raise
        except Exception as failure:
            # Not `from failure`: a driver's error contains statements, which contain names and addresses.
            raise ApplicationError(
                _message(failure),
                activity.info().attempt,
                *([OUTAGE] if isinstance(failure, OutageError) else []),
                type=type(failure).__name__,
                non_retryable=isinstance(failure, NonRetryableError),
            ) from None

    return attempt


def step(run: Callable[P, Awaitable[StepReport]]) -> Callable[P, Awaitable[StepReport]]:
    """Make an activity of a step or an undo. It has the method's name and reports the outcome and the attempt."""

    @activity.defn
    @failing_by_type
    @functools.wraps(run)
    async def attempt(*args: P.args, **kwargs: P.kwargs) -> StepReport:
        report = await run(*args, **kwargs)
        tried = activity.info().attempt
        return report if report.attempt == tried else report.model_copy(update={"attempt": tried})

    return attempt


def maintenance_activity(run: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Make an activity of the scheduled workflows. It has the method's name and sends heartbeats."""

    @activity.defn
    @failing_by_type
    @functools.wraps(run)
    async def attempt(*args: P.args, **kwargs: P.kwargs) -> R:
        async with heartbeating():
            return await run(*args, **kwargs)

    return attempt


def time_left(budget: timedelta) -> Callable[[], bool]:
    """Return a function that says whether the budget, which starts now, has time left for more work."""
    clock = asyncio.get_running_loop().time
    end = clock() + budget.total_seconds()
    return lambda: clock() < end


def _message(failure: Exception) -> str:
    """Return the first line of the message, with Lastmile's own words for a failure of the database."""
    return describe_failure(failure) or str(failure).partition("\n")[0] or f"{type(failure).__name__} without a message"


def done(**facts: str) -> StepReport:
    """Report that the step is done."""
    return StepReport(outcome=StepOutcome.DONE, facts=facts)


def skipped(reason: str, **facts: str) -> StepReport:
    """Report that the step had nothing to do, or that its controller is not configured."""
    return StepReport(outcome=StepOutcome.SKIPPED, reason=reason, facts=facts)


def warned(reason: str, **facts: str) -> StepReport:
    """Report that a best-effort step was not done, or only in part."""
    return StepReport(outcome=StepOutcome.WARNED, reason=reason, facts=facts)


def undone(happened: bool) -> StepReport:
    """Report an undo; `happened`: there was something of this order to undo."""
    if happened:
        return StepReport(outcome=StepOutcome.UNDONE)
    return StepReport(outcome=StepOutcome.SKIPPED, reason="nothing of this order is left to undo")
