"""Many orders at once, each to its end: started, waited for, and told as it really ended."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError

from lastmile.cli.connections import Temporal
from lastmile.cli.current_user import on_behalf
from lastmile.cli.exit_codes import Exit
from lastmile.client.errors import ClientError
from lastmile.client.orders import RunLostError, outlasting
from lastmile.client.scheduled_orders import ScheduledOrder
from lastmile.contract import AnyOrder, OrderResult, ResultStatus
from lastmile.fields.unsafe import escape

__all__ = ["Ended", "Runs"]

CONCURRENCY = 32
"""Orders in flight. 16 and 64 give the same rate with one worker (docs/reference/performance.md); more delay others."""
WATCH_SECONDS = 5

_GOOD = {ResultStatus.COMPLETED, ResultStatus.DEGRADED}


@dataclass(frozen=True, slots=True)
class Ended:
    """An order as far as it is known: with a result, or `scheduled`, `refused`, `lost` or `unknown`, and why."""

    order: AnyOrder
    status: str
    reason: str
    result: OrderResult | None = None
    scheduled: ScheduledOrder | None = None

    @classmethod
    def with_result(cls, order: AnyOrder, result: OrderResult) -> Self:
        why = [result.reason] if result.reason else result.warnings
        said = [*([result.outdated] if result.outdated else []), *why, *result.notes]
        return cls(order, result.status, "; ".join(said), result)

    @property
    def exit(self) -> Exit:
        if self.status == "unknown":
            return Exit.UNAVAILABLE
        return Exit.DONE if self.status in _GOOD or self.scheduled else Exit.FAILED

    def as_json(self) -> dict[str, Any]:
        """The order's result; without one the same fields, as far as there is something to say."""
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


class Runs:
    """Runs a bounded number of orders at a time, those of one subscriber one after the other.

    `async with` watches over them; at its end those that still run are left alone. `warn` hears of trouble.
    """

    def __init__(self, temporal: Temporal, warn: Callable[[str], None]) -> None:
        self.started: list[AnyOrder] = []
        """What is running now."""
        self.starting: list[AnyOrder] = []
        """What Temporal has been asked to start, and has not said that it did."""
        self._temporal = temporal
        self._warn = warn
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[str, asyncio.Task[None]] = {}  # of each subscriber
        self._failure: BaseException | None = None
        self._parked: dict[AnyOrder, str] = {}
        """What an operator was last told to decide about each order."""

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, at: TracebackType | None) -> None:
        self._watching.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._watching, *self._tasks, return_exceptions=True)

    async def begin(self, order: AnyOrder, tell: Callable[[Ended], None]) -> None:
        """Run the order as soon as there is room, which this waits for; `tell` hears of its end."""
        await self._slots.acquire()
        if self._failure is not None:
            raise self._failure
        before = self._last.get(order.workflow_id)
        task = asyncio.create_task(self._in_turn(before, order, tell))
        self._last[order.workflow_id] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, order.workflow_id))

    async def finish(self) -> None:
        """Wait until all have ended."""
        await self.settle(None)
        if self._failure is not None:
            raise self._failure

    async def settle(self, seconds: float | None) -> None:
        """Wait until all have ended, or for so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _done(self, task: asyncio.Task[None], subscriber: str) -> None:
        self._slots.release()
        self._tasks.discard(task)
        if self._last.get(subscriber) is task:
            del self._last[subscriber]
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failure = failure

    async def _in_turn(self, before: asyncio.Task[None] | None, order: AnyOrder, tell: Callable[[Ended], None]) -> None:
        if before is not None:
            await asyncio.wait([before])
        tell(await self._end_of(order))

    async def _end_of(self, order: AnyOrder) -> Ended:
        try:
            return await self._carry_out(order)
        except ClientError as failure:
            return Ended(order, "refused", str(failure))
        except RunLostError as failure:
            return Ended(order, "lost", str(failure))
        except (RPCError, WorkflowQueryFailedError) as failure:
            return Ended(order, "unknown", f"Temporal did not say ({failure}): send the same order again to see")

    async def _carry_out(self, order: AnyOrder) -> Ended:
        sent = on_behalf(order)
        self.starting.append(order)
        try:
            # A server that is away is waited for: an outage must not eat its way through a file.
            run = await outlasting(lambda: self._temporal.orders.start(sent))
        finally:
            self.starting.remove(order)
        if run.scheduled is not None:
            return Ended(order, "scheduled", (await run.result()).reason, scheduled=run.scheduled)
        self.started.append(order)
        try:
            result = await run.result()
        except asyncio.CancelledError:
            raise  # still running, and still in the list
        except BaseException:
            self.started.remove(order)
            raise
        self.started.remove(order)
        return Ended.with_result(order, result)

    async def _look_for_parked(self) -> None:
        told, self._parked = self._parked, {}  # an order that has ended is not kept
        for order in tuple(self.started):
            try:
                attention = await self._temporal.waits_for_decision(order)
            except (RPCError, WorkflowQueryFailedError):  # the order has ended meanwhile, or no worker answers
                attention = told.get(order, "")
            if attention and attention != told.get(order):
                self._warn(
                    f"Order {order.order_id} waits for an operator: {escape(attention)}. Decide with `lastmile "
                    f"retry|skip|abandon {order.subscriber_ref} --tenant {order.tenant} --why REASON`; "
                    "`lastmile attention` lists all such orders."
                )
            self._parked[order] = attention

    async def _watch(self) -> None:
        """Say once why orders wait: no worker runs, Temporal is away, or an operator has to decide."""
        said = ""
        while True:
            try:
                trouble = await self._temporal.lack_of_workers()
            except RPCError:
                trouble = "Temporal does not answer; waiting for it. Orders that were started go on once it is back."
            if trouble and trouble != said:
                self._warn(trouble)
            said = trouble
            if not trouble:
                await self._look_for_parked()
            await asyncio.sleep(WATCH_SECONDS)
