"""What all activities share: transactions that respect the order's fence, and failures with names."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.messages import BEYOND_DATABASE, OUTAGE, StepContext, StepReport
from ipam.order_scope import OrderScope
from lastmile.contract.results import StepOutcome
from lastmile.db import Database, TenantConnection
from lastmile.errors import NonRetryableError, OutageError
from lastmile.subscribers.orders import hold_forward, hold_undo

__all__ = [
    "Activities",
    "beyond_database",
    "done",
    "failing_by_type",
    "heartbeating",
    "skipped",
    "step",
    "taken",
    "time_left",
    "undone",
    "upkeep",
    "warned",
]

# A fraction of the heartbeat timeout in workflows/calling.py.
HEARTBEAT_SECONDS = 5

P = ParamSpec("P")
R = TypeVar("R")


class Activities:
    """Activities of one system, on injected clients."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def _order(self, ref: StepContext) -> AsyncIterator[TenantConnection]:
        """A transaction in which this step, or this undo, may act. Raises `OrderFencedError` where it may not."""
        async with self._database.tenant(
            ref.tenant, actor=ref.requested_by, order_id=ref.order_id, subscriber_ref=ref.subscriber_ref
        ) as connection:
            await (hold_undo if ref.undo else hold_forward)(connection, ref.order_id)
            yield connection

    def _scope(self, ref: StepContext) -> OrderScope:
        """Return the order of the step, as IPAM knows it."""
        return OrderScope(
            tenant=ref.tenant,
            subscriber_ref=ref.subscriber_ref,
            order_id=ref.order_id,
            undo=ref.undo,
            transaction=lambda: self._order(ref),
            leave_database=beyond_database,
        )


def beyond_database(what: str) -> None:
    """Said inside the transaction by a step that is about to reach further than it: `what` it will do.

    Raises where the step runs as a local activity, which is for the database alone: it has no heartbeat, no
    cancel reaches it, and no operator sees it until it has ended. The workflow calls it as an activity proper then.
    """
    if activity.info().is_local:
        raise ApplicationError(
            f"to {what}, this is done as an activity proper",
            type=BEYOND_DATABASE,
            category=ApplicationErrorCategory.BENIGN,  # nothing to log
        )


def taken() -> float:
    """Seconds since the activity was asked for, by the clock of whoever asked: all its attempts, and the pauses."""
    return max(0.0, (datetime.now(UTC) - activity.info().scheduled_time).total_seconds())


@asynccontextmanager
async def heartbeating() -> AsyncIterator[None]:
    """Tell the server that the activity is alive, which is also how a cancel reaches it."""

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
    """Raise failures as `ApplicationError` of their type, with the attempt; never retry a `NonRetryableError`."""

    @functools.wraps(run)
    async def attempt(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await run(*args, **kwargs)
        except ApplicationError:
            raise
        except Exception as failure:
            # Not `from failure`: a driver's error carries statements, and those carry names and addresses.
            raise ApplicationError(
                _words(failure),
                activity.info().attempt,
                *([OUTAGE] if isinstance(failure, OutageError) else []),
                type=type(failure).__name__,
                non_retryable=isinstance(failure, NonRetryableError),
            ) from None

    return attempt


def step(run: Callable[P, Awaitable[StepReport]]) -> Callable[P, Awaitable[StepReport]]:
    """A step or an undo: an activity of the method's name that reports what it did, and in which attempt."""

    @activity.defn
    @failing_by_type
    @functools.wraps(run)
    async def attempt(*args: P.args, **kwargs: P.kwargs) -> StepReport:
        report = await run(*args, **kwargs)
        return report.model_copy(update={"attempt": activity.info().attempt})

    return attempt


def upkeep(run: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """An activity of the scheduled workflows, of the method's name: it may take long, and says that it is alive."""

    @activity.defn
    @failing_by_type
    @functools.wraps(run)
    async def attempt(*args: P.args, **kwargs: P.kwargs) -> R:
        async with heartbeating():
            return await run(*args, **kwargs)

    return attempt


def time_left(budget: timedelta) -> Callable[[], bool]:
    """Says, from now on, whether an activity that could go on for ever may take its next piece of work."""
    clock = asyncio.get_running_loop().time
    end = clock() + budget.total_seconds()
    return lambda: clock() < end


def _words(failure: Exception) -> str:
    """One line for a person, without what SQLAlchemy appends: the statement and its parameters."""
    original: Any = getattr(failure, "orig", None) or failure
    return str(original).partition("\n")[0] or type(failure).__name__


def done(**facts: str) -> StepReport:
    return StepReport(outcome=StepOutcome.DONE, facts=facts)


def skipped(reason: str, **facts: str) -> StepReport:
    return StepReport(outcome=StepOutcome.SKIPPED, reason=reason, facts=facts)


def warned(reason: str, **facts: str) -> StepReport:
    return StepReport(outcome=StepOutcome.WARNED, reason=reason, facts=facts)


def undone(happened: bool) -> StepReport:
    """After an undo: whether there was anything of this order's to take back."""
    if happened:
        return StepReport(outcome=StepOutcome.UNDONE)
    return StepReport(outcome=StepOutcome.SKIPPED, reason="nothing of this order's left to take back")
