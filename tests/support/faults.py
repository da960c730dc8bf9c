"""Faults at the worker's own seam: an interceptor that fails, delays or loses chosen activities.

The activities, the database and Temporal stay real; what is scripted is when things go wrong.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import event
from temporalio import activity, client, worker
from temporalio.exceptions import ApplicationError

from activities.current_step import activity_type
from activities.step_groups import StepInterceptor
from lastmile.db import Database

__all__ = ["Fault", "Faults", "Gate", "after_closing", "alone", "broken", "listen_to_commits", "once", "refused"]

Fault = Callable[[], Awaitable[None]]


class Gate:
    """A place where an activity stops until the test opens it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self._opened.wait()

    def open(self) -> None:
        self._opened.set()


async def refused() -> None:
    """Fail with an error that no retry repairs."""
    raise ApplicationError("refused by the test", activity.info().attempt, type="Scripted", non_retryable=True)


async def broken() -> None:
    """A failure that is retried, at once: the retries are used up in no time."""
    raise ApplicationError(
        "broken by the test", activity.info().attempt, type="Broken", next_retry_delay=timedelta(milliseconds=1)
    )


def once(fault: Fault) -> Fault:
    """Only the first attempt fails, of each activity of each run."""
    failed: set[tuple[str | None, str]] = set()

    async def first() -> None:
        if (one := (activity.info().workflow_run_id, activity_type())) not in failed:
            failed.add(one)
            await fault()

    return first


def alone(fault: Fault) -> Fault:
    """Return the fault of a step that fails in its group, and that has this fault as an activity of its own.

    While a group runs, its rows are not committed, and its run answers no query and no update.
    """
    fail = once(broken)

    async def later() -> None:
        await fail()
        await fault()

    return later


def listen_to_commits(database: Database, at_commit: Callable[[], None]) -> None:
    """Call `at_commit` before a transaction of an activity is committed, and before a grouped step's savepoint ends."""

    def on_commit(_: object) -> None:
        if activity.in_activity():
            at_commit()

    def on_release(_: object, __: str, ___: object) -> None:
        if activity.in_activity():
            at_commit()

    event.listen(database.engine.sync_engine, "commit", on_commit)
    event.listen(database.engine.sync_engine, "release_savepoint", on_release)


class Faults(client.Interceptor, StepInterceptor):
    """What goes wrong: before an activity runs, or after it has done its work and before that is known.

    A step of a group counts as an activity. By activity type, or by order id and activity type. The worker takes it
    over from its client.
    """

    def __init__(self) -> None:
        self.before: dict[str | tuple[str, str], Fault] = {}
        self.after: dict[str | tuple[str, str], Fault] = {}
        self.ran: Counter[str] = Counter()
        """Attempts whose work was done, by activity type."""

    def intercept_activity(self, next: worker.ActivityInboundInterceptor) -> worker.ActivityInboundInterceptor:
        return _Faulty(next, self)


def after_closing(faults: Faults, fault: Fault, order_id: str | None = None) -> None:
    """Have the fault happen after the transaction that has closed the order."""
    closed: set[str] = set()

    async def closing() -> None:
        closed.add(str(activity.info().workflow_run_id))

    async def committed() -> None:
        if str(activity.info().workflow_run_id) in closed:
            await fault()

    for name, what in (("close_order", closing), *((name, committed) for name in ("open_order", "run_steps"))):
        faults.after[(order_id, name) if order_id else name] = what


class _Faulty(worker.ActivityInboundInterceptor):
    def __init__(self, next: worker.ActivityInboundInterceptor, faults: Faults) -> None:
        super().__init__(next)
        self._faults = faults

    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:
        name = activity_type()
        one = (getattr(input.args[0], "order_id", ""), name) if input.args else ("", name)
        faults = self._faults
        if before := faults.before.get(one) or faults.before.get(name):
            await before()
        result = await super().execute_activity(input)
        faults.ran[name] += 1
        if after := faults.after.get(one) or faults.after.get(name):
            await after()
        return result
