"""For provisioning systems: start orders, wait for them, see where they stand, cancel them."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, CancelledError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client.connection import connect
from lastmile.client.errors import (
    AlreadyRunningError,
    NotRunningError,
    NotScheduledError,
    OrderIdReusedError,
    OrderRefusedError,
    RunLostError,
)
from lastmile.client.scheduled_orders import ScheduledOrder, ScheduledOrders
from lastmile.client.sdk_threads import wait_for_threads
from lastmile.contract import AnyOrder, Decision, OrderResult, Progress, ResultStatus, workflow_id
from lastmile.contract.operations import order_type
from lastmile.encryption.keys import KeyRing
from workflows.start_options import memo, priority, search_attributes, summary

__all__ = [
    "AlreadyRunningError",
    "Connecting",
    "Lastmile",
    "NotRunningError",
    "NotScheduledError",
    "OrderIdReusedError",
    "OrderRefusedError",
    "OrderRun",
    "RunLostError",
    "ScheduledOrder",
    "outlasting",
]

# A run that ends between "already started" and the look at it: start again, a few times.
START_ATTEMPTS = 5


# A start that got no answer may have happened; trying again finds the run that it made.
START_PATIENCE_SECONDS = 60
PAUSE_SECONDS = 1

AWAY = {
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.UNKNOWN,
    RPCStatusCode.FAILED_PRECONDITION,
}
"""What an RPC fails with while the server is gone or restarting, or while no worker can answer a query."""

T = TypeVar("T")


async def outlasting(call: Callable[[], Awaitable[T]], patience: float = math.inf) -> T:
    """Repeat the call while the server or its workers are away, for `patience` seconds; then raise its error."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await call()
        except RPCError as failure:
            if failure.status not in AWAY or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class OrderRun:
    """A run that was started or found, or an order that a Schedule holds until its `not_before`."""

    order: AnyOrder
    handle: WorkflowHandle[Any, OrderResult]
    """The subscriber's run; not of this order while the order is held."""
    scheduled: ScheduledOrder | None = None
    """Where the order is held: nothing has started."""

    async def result(self) -> OrderResult:
        """Wait for the end, whatever it is. For an order that is held, return at once with the status `scheduled`.

        Raises `OrderRefusedError` where the order was never begun and `RunLostError` where its run was terminated.
        """
        if self.scheduled is not None:
            return self._held(self.scheduled)
        try:
            result: OrderResult = await outlasting(self.handle.result)
            return result
        except WorkflowFailureError as failure:
            cause = failure.cause
            if isinstance(cause, CancelledError):
                return await self._recorded()
            if isinstance(cause, ApplicationError):
                if cause.details:
                    return OrderResult.model_validate(cause.details[0])
                raise OrderRefusedError(f"{cause.message}") from failure
            raise RunLostError(f"the run of order {self.order.order_id} was ended from outside: {cause}") from failure

    def _held(self, scheduled: ScheduledOrder) -> OrderResult:
        return OrderResult(
            operation=self.order.operation,
            tenant=self.order.tenant,
            order_id=self.order.order_id,
            subscriber_ref=self.order.subscriber_ref,
            status=ResultStatus.SCHEDULED,
            reason=f"starts at {scheduled.at:%Y-%m-%d %H:%M:%S} UTC, by Temporal Schedule {scheduled.schedule}",
        )

    async def _recorded(self) -> OrderResult:
        """A canceled run returns nothing, but remembers."""
        progress: Progress = await outlasting(lambda: self.handle.query("progress", result_type=Progress))
        if progress.result is None:
            raise RunLostError(f"the run of order {self.order.order_id} ended without a result")
        return progress.result


class Lastmile:
    """Orders for a Lastmile, on top of a Temporal client that uses its data converter (`connect`)."""

    def __init__(self, client: Client, *, task_queue: str = "lastmile") -> None:
        self.client = client
        """The connection to Temporal that they go through."""
        self._task_queue = task_queue
        self.scheduled = ScheduledOrders(client, task_queue)
        """The orders for a later date: hold one, list, move and cancel them."""

    @classmethod
    def connect(cls, *, task_queue: str = "lastmile", keys: KeyRing | None = None) -> "Connecting":
        """Connect as the Temporal SDK's environment configuration says: `async with Lastmile.connect() as lastmile`.

        `keys` are those of Lastmile's workers, where these have any. Raises `lastmile.client.connection.Unreachable`.
        """
        return Connecting(connect(keys=keys), task_queue)

    async def execute(self, order: AnyOrder) -> OrderResult:
        """Start the order and wait for its end; hold it where its `not_before` is ahead, and say `scheduled`."""
        return await (await self.start(order)).result()

    async def start(self, order: AnyOrder) -> OrderRun:
        """Start the order; the same order again finds the run, or the result, of the first time.

        An order whose `not_before` is ahead is held by a Temporal Schedule until then, and has not started.
        Raises `AlreadyRunningError` where the subscriber is being worked on and `OrderIdReusedError` where that is by
        an order of this id with other content.
        """
        if held := await outlasting(lambda: self.scheduled.hold(order), START_PATIENCE_SECONDS):
            return OrderRun(order, self._run(order, None), held)
        for _ in range(START_ATTEMPTS):
            try:
                return OrderRun(order, await outlasting(lambda: self._start(order), START_PATIENCE_SECONDS))
            except WorkflowAlreadyStartedError:
                if found := await self._running(order):
                    return found
        raise AlreadyRunningError(f"{order.workflow_id} is busy: other operations keep starting on it; try again")

    async def _start(self, order: AnyOrder) -> WorkflowHandle[Any, OrderResult]:
        started: WorkflowHandle[Any, OrderResult] = await self.client.start_workflow(
            order_type(order).workflow,
            order,
            id=order.workflow_id,
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            result_type=OrderResult,
            memo=memo(order),
            search_attributes=search_attributes(order),
            static_summary=summary(order),
            priority=priority(order),
        )
        # Bound to this run: the id alone means the subscriber's newest, which may soon be another order's.
        return self._run(order, started.result_run_id)

    async def _running(self, order: AnyOrder) -> OrderRun | None:
        """The open run that holds the subscriber's id, if it is this order's; None where it has just ended."""
        run = await self.client.get_workflow_handle(order.workflow_id).describe()
        if run.status is not WorkflowExecutionStatus.RUNNING:
            return None
        order_id = await run.memo_value("order_id", default=None)
        if order_id is None:
            raise AlreadyRunningError(
                f"{run.workflow_type} is at work on subscriber {order.subscriber_ref} (run {run.run_id}), which is no "
                "order, and soon over: try again"
            )
        # The run's own type: the error names the type that was asked for.
        if order_id != order.order_id:
            raise AlreadyRunningError(
                f"{run.workflow_type} of subscriber {order.subscriber_ref} is already running, for order {order_id} "
                f"(run {run.run_id}): wait for it, or cancel it"
            )
        if await run.memo_value("digest", default="") != order.digest:
            raise OrderIdReusedError(
                f"order {order.order_id} is running with other content: an id belongs to one order"
            )
        return OrderRun(order, self._run(order, run.run_id))

    def _run(self, order: AnyOrder, run_id: str | None) -> WorkflowHandle[Any, OrderResult]:
        return self.client.get_workflow_handle(order.workflow_id, run_id=run_id, result_type=OrderResult)

    async def progress(self, tenant: str, subscriber_ref: str) -> Progress | None:
        """Where the subscriber's newest run stands; None where Temporal remembers none, or it is no order's.

        Needs a worker.
        """
        handle = self.client.get_workflow_handle(workflow_id(tenant, subscriber_ref))
        try:
            progress: Progress | None = await handle.query("progress", result_type=Progress)
            return progress
        except RPCError as failure:
            if failure.status is RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def cancel(self, tenant: str, subscriber_ref: str) -> None:
        """Ask the running order to stop and roll back. Raises `NotRunningError`."""
        handle = self.client.get_workflow_handle(workflow_id(tenant, subscriber_ref))
        nothing = NotRunningError(f"no order of subscriber {subscriber_ref} is running")
        try:
            # Temporal takes the cancel of a closed run without a word.
            found = await handle.describe()
            if found.status is not WorkflowExecutionStatus.RUNNING:
                raise nothing
            await self.client.get_workflow_handle(handle.id, run_id=found.run_id).cancel()
        except RPCError as failure:
            if failure.status is RPCStatusCode.NOT_FOUND:
                raise nothing from failure
            raise

    async def steer(self, tenant: str, subscriber_ref: str, update: str, decision: Decision) -> str:
        """An operator's `retry_step`, `skip_step` or `abandon`. Raises `NotRunningError` where nothing is parked."""
        handle = self.client.get_workflow_handle(workflow_id(tenant, subscriber_ref))
        try:
            return str(await handle.execute_update(update, decision, result_type=str))
        except WorkflowUpdateFailedError as failure:
            cause = failure.cause
            # Its text begins with its type, which is for programs.
            raise NotRunningError(cause.message if isinstance(cause, ApplicationError) else str(cause)) from failure
        except RPCError as failure:
            if failure.status is RPCStatusCode.NOT_FOUND:
                raise NotRunningError(f"no order of subscriber {subscriber_ref} is running") from failure
            raise


class Connecting:
    """A client that is about to connect: enter it with `async with`, or await it."""

    def __init__(self, client: Coroutine[Any, Any, Client], task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    def __await__(self) -> Generator[Any, None, Lastmile]:
        return self._connect().__await__()

    async def __aenter__(self) -> Lastmile:
        return await self._connect()

    async def __aexit__(self, *_: object) -> None:
        await wait_for_threads()

    async def _connect(self) -> Lastmile:
        return Lastmile(await self._client, task_queue=self._task_queue)
