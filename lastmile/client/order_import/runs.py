"""Many orders at once: each is started, awaited and reported with its outcome."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError

from lastmile.client.availability import retry_unavailable
from lastmile.client.errors import ClientError
from lastmile.client.operator import Operator
from lastmile.client.orders import RunLostError
from lastmile.client.scheduled_orders import ScheduledOrder
from lastmile.contract import AnyOrder, OrderResult, ResultStatus
from lastmile.encryption.keys import DecryptionError
from lastmile.fields.unsafe import escape

__all__ = ["EndedOrder", "OrderRuns"]

CONCURRENCY = 32
"""Orders at a time. With one worker, 16 and 64 are as fast (docs/reference/performance.md); more delay other orders."""
WATCH_SECONDS = 5

_AWAY = "Temporal does not answer; waiting for it. Orders that were started go on once it is back."

_SUCCEEDED = {ResultStatus.COMPLETED, ResultStatus.DEGRADED}


@dataclass(frozen=True, slots=True)
class EndedOrder:
    """An order and its outcome: a result, or the status `scheduled`, `refused`, `lost` or `unknown` with a reason."""

    order: AnyOrder
    status: str
    reason: str
    result: OrderResult | None = None
    scheduled: ScheduledOrder | None = None

    @classmethod
    def with_result(cls, order: AnyOrder, result: OrderResult) -> Self:
        """Make the outcome of an order that has ended with a result."""
        why = [result.reason] if result.reason else result.warnings
        words = [*([result.outdated] if result.outdated else []), *why, *result.notes]
        return cls(order, result.status, "; ".join(words), result)

    @property
    def succeeded(self) -> bool:
        """The order completed, is degraded, or is scheduled."""
        return self.status in _SUCCEEDED or self.scheduled is not None

    @property
    def unknown(self) -> bool:
        """Temporal did not answer."""
        return self.status == "unknown"

    def as_json(self) -> dict[str, Any]:
        """Return the order's result; without a result the same fields, as far as their values are known."""
        if self.result is not None:
            return self.result.model_dump(mode="json")
        if self.scheduled is not None:
            return self.scheduled.as_json()
        order = self.order
        return {
            "operation": order.operation,
            "tenant": order.tenant,
            "order_id": order.order_id,
            "subscriber_ref": order.subscriber_ref,
            "status": self.status,
            "reason": self.reason,
        }


class OrderRuns:
    """Runs a bounded number of orders at a time, those of one subscriber one after the other.

    `async with` watches the runs, and leaves those that have not ended running. `warn` gets a sentence when orders wait
    for Temporal, a worker or an operator. `requested_by` is for orders without `requested_by`.
    """

    def __init__(self, operator: Operator, warn: Callable[[str], None], *, requested_by: str = "") -> None:
        self.started: list[AnyOrder] = []
        """The orders that are running now."""
        self.starting: list[AnyOrder] = []
        """The orders whose start Temporal has not confirmed."""
        self._operator = operator
        self._warn = warn
        self._requested_by = requested_by
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[str, asyncio.Task[None]] = {}  # by workflow id, which is one for each subscriber
        self._failure: BaseException | None = None
        self._announced: dict[AnyOrder, str] = {}
        """The decision that `warn` last got for each order."""

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, at: TracebackType | None) -> None:
        self._watching.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._watching, *self._tasks, return_exceptions=True)

    async def begin(self, order: AnyOrder, report: Callable[[EndedOrder], None]) -> None:
        """Wait for a free slot, and run the order in it; `report` gets its outcome."""
        await self._slots.acquire()
        if self._failure is not None:
            raise self._failure
        before = self._last.get(order.workflow_id)
        task = asyncio.create_task(self._run_after(before, order, report))
        self._last[order.workflow_id] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._release(done, order.workflow_id))

    async def finish(self) -> None:
        """Wait until all orders have ended. Raises the first failure that is not an order's."""
        await self.settle(None)
        if self._failure is not None:
            raise self._failure

    async def settle(self, seconds: float | None) -> None:
        """Wait until all orders have ended, or for so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _release(self, done: asyncio.Task[None], workflow_id: str) -> None:
        self._slots.release()
        self._tasks.discard(done)
        if self._last.get(workflow_id) is done:
            del self._last[workflow_id]
        if not done.cancelled() and (failure := done.exception()) is not None:
            self._failure = failure

    async def _run_after(
        self, before: asyncio.Task[None] | None, order: AnyOrder, report: Callable[[EndedOrder], None]
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        report(await self._outcome(order))

    async def _outcome(self, order: AnyOrder) -> EndedOrder:
        try:
            return await self._run(order)
        except ClientError as failure:
            return EndedOrder(order, "refused", str(failure))
        except RunLostError as failure:
            return EndedOrder(order, "lost", str(failure))
        except (RPCError, WorkflowQueryFailedError) as failure:
            return EndedOrder(order, "unknown", f"Temporal did not say ({failure}): send the same order again to see")

    async def _run(self, order: AnyOrder) -> EndedOrder:
        sent = order if order.requested_by else order.model_copy(update={"requested_by": self._requested_by})
        self.starting.append(order)
        try:
            # Wait while Temporal is away: otherwise an outage would fail the rest of a file.
            run = await retry_unavailable(lambda: self._operator.orders.start(sent))
        finally:
            self.starting.remove(order)
        if run.scheduled is not None:
            return EndedOrder(order, "scheduled", (await run.result()).reason, scheduled=run.scheduled)
        self.started.append(order)
        try:
            result = await run.result()
        except asyncio.CancelledError:
            raise  # the order is still running, and stays in the list
        except BaseException:
            self.started.remove(order)
            raise
        self.started.remove(order)
        return EndedOrder.with_result(order, result)

    async def _announce_decisions(self) -> None:
        before, self._announced = self._announced, {}  # drops the orders that have ended
        for order in tuple(self.started):
            try:
                decision = await self._operator.pending_decision(order)
            # The order has ended meanwhile, no worker answers, or this process lacks the key of the answer.
            except (RPCError, WorkflowQueryFailedError, DecryptionError):
                decision = before.get(order, "")
            if decision and decision != before.get(order):
                self._warn(
                    f"Order {order.order_id} waits for an operator: {escape(decision).rstrip('.')}. Decide with "
                    f"`lastmile retry|skip|abandon {order.subscriber_ref} --tenant {order.tenant} --why REASON`; "
                    "`lastmile attention` lists all such orders."
                )
            self._announced[order] = decision

    async def _watch(self) -> None:
        """Warn once for each reason why orders wait: no worker, no Temporal server, or a decision."""
        warned = ""
        while True:
            try:
                trouble = await self._operator.worker_shortage()
            except RPCError:
                # The request alone may have failed, for example under load.
                trouble = "" if await self._operator.temporal_answers() else _AWAY
            if trouble and trouble != warned:
                self._warn(trouble)
            warned = trouble
            if not trouble:
                await self._announce_decisions()
            await asyncio.sleep(WATCH_SECONDS)
