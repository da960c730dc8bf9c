"""Many orders at once, each to its end: started, waited for, and told as it really ended."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError

from cli.exits import Exit
from cli.output import when
from cli.services import Temporal
from errors import Refused
from workflows.client import RunLost
from workflows.contract import AnyOrder, OrderResult, ResultStatus
from workflows.scheduled import ScheduledOrder

__all__ = ["Ended", "Runs"]

CONCURRENCY = 16
WATCH_SECONDS = 15

_GOOD = {ResultStatus.COMPLETED, ResultStatus.DEGRADED}


@dataclass(frozen=True, slots=True)
class Ended:
    """An order as far as it is known: with a result, or `scheduled`, `refused`, `lost` or `unknown`, and why."""

    order: AnyOrder
    status: str
    reason: str
    result: OrderResult | None = None
    scheduled: ScheduledOrder | None = None

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


@dataclass
class Runs:
    """Runs orders, those of one subscriber one after the other. `tell` hears of each end, `warn` of trouble."""

    temporal: Temporal
    tell: Callable[[Ended], None]
    warn: Callable[[str], None]
    started: list[AnyOrder] = field(default_factory=list)
    """What is running now."""

    async def run(self, orders: Sequence[AnyOrder]) -> None:
        """Run them all. Cancelling this leaves the runs alone."""
        slots = asyncio.Semaphore(CONCURRENCY)
        queues: dict[str, list[AnyOrder]] = defaultdict(list)
        for order in orders:
            queues[order.workflow_id].append(order)
        watch = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for queue in queues.values():
                    group.create_task(self._in_turn(queue, slots))
        finally:
            watch.cancel()

    async def _in_turn(self, orders: Sequence[AnyOrder], slots: asyncio.Semaphore) -> None:
        for order in orders:
            async with slots:
                self.tell(await self._end_of(order))

    async def _end_of(self, order: AnyOrder) -> Ended:
        try:
            return await self._carry_out(order)
        except Refused as failure:
            return Ended(order, "refused", str(failure))
        except RunLost as failure:
            return Ended(order, "lost", str(failure))
        except (RPCError, WorkflowQueryFailedError) as failure:
            return Ended(order, "unknown", f"Temporal did not say ({failure}): send the same order again to see")

    async def _carry_out(self, order: AnyOrder) -> Ended:
        if held := await self.temporal.orders.scheduled.hold(order):
            starts = f"starts at {when(held.at)}, by Temporal Schedule {held.schedule}"
            return Ended(order, "scheduled", starts, scheduled=held)
        run = await self.temporal.orders.start(order)
        self.started.append(order)
        try:
            result = await run.result()
        except asyncio.CancelledError:
            raise  # still running, and still in the list
        except BaseException:
            self.started.remove(order)
            raise
        self.started.remove(order)
        return Ended(order, result.status, result.reason or "; ".join(result.warnings), result)

    async def _watch(self) -> None:
        """Orders wait as long as no worker runs, or Temporal is away: say so, once each time that it comes to be."""
        said = ""
        while True:
            try:
                trouble = await self.temporal.lack_of_workers()
            except RPCError:
                trouble = "Temporal does not answer; waiting for it. Orders that were started go on once it is back."
            if trouble and trouble != said:
                self.warn(trouble)
            said = trouble
            await asyncio.sleep(WATCH_SECONDS)
