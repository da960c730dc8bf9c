"""The orders of a pool's renumbering that are in flight: start them, send lost ones again, count their outcomes."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from lastmile.contract.pool_renumbering import EndedRenumbering, PoolRenumbering, RenumberingState, StartedRenumbering
from workflows.child_orders import start_order
from workflows.maintenance.activity_call import SHOWN

__all__ = ["TURN", "RenumberingOrders"]

IN_FLIGHT = 32
"""The orders at a time whose line has not switched yet, as in an import. While NetBox is away no more orders start."""

TURN = timedelta(seconds=5)
"""The shortest turn that is planned. At a lower rate than one line a turn, a turn is longer."""

SEND_AGAIN = timedelta(minutes=10)
SENT_AT_MOST = 3
"""An order without a decision is sent again: its run may have been terminated. One that is refused has no record."""

LEAST_FAILURES = 5
"""With fewer failures the share is not judged: one of the first two lines may well fail."""


class RenumberingOrders:
    """The orders in flight, on the state that a run of the workflow passes to the next one."""

    def __init__(self, request: PoolRenumbering, state: RenumberingState) -> None:
        self._request = request
        self._state = state
        self.started = 0
        """The number of orders that this run has started."""

    def places(self, now: datetime) -> int:
        """Return how many lines may start now."""
        state = self._state
        if state.complete or (state.next_start is not None and now < state.next_start):
            return 0
        at_once = int(self._request.lines_per_hour * (TURN / timedelta(hours=1)))
        return min(max(1, at_once), IN_FLIGHT - len(state.in_flight))

    async def start(self, lines: list[StartedRenumbering]) -> int:
        """Start an order for each line, except for those with another order. Return their number."""
        free = await asyncio.gather(*(_send(line) for line in lines))
        now = workflow.now()
        begun = [
            line.model_copy(update={"sent_at": now, "sent": 1})
            for line, started in zip(lines, free, strict=True)
            if started or line.begun
        ]
        self._state.in_flight += begun
        self._state.started_in_pass += len(begun)
        self.started += len(begun)
        return len(begun)

    async def send_again(self) -> None:
        """Send the orders again whose run may have been lost. Where it is running, that changes nothing."""
        now = workflow.now()
        for line in self._state.in_flight:
            if line.sent_at is not None and now - line.sent_at >= SEND_AGAIN:
                line.sent_at = now
                line.sent += await _send(line)
        self.record(
            [
                EndedRenumbering(delegation_id=line.delegation_id, failure="the order ends without a result")
                for line in self._state.in_flight
                if line.sent > SENT_AT_MOST
            ]
        )

    def record(self, ended: Sequence[EndedRenumbering]) -> None:
        """Count the outcomes."""
        state = self._state
        decided = {one.delegation_id: one for one in ended}
        state.renumbered += sum(one.renumbered for one in ended)
        for line in state.in_flight:
            if (one := decided.get(line.delegation_id)) is not None and one.failure:
                state.failed += 1
                self.tell(f"{line.order.tenant}, subscriber {line.order.subscriber_ref}: failed: {one.failure}")
        state.in_flight = [line for line in state.in_flight if line.delegation_id not in decided]

    @property
    def too_many_failed(self) -> str:
        """Why the renumbering stops, in words. Empty: it goes on."""
        state = self._state
        done = state.renumbered + state.failed
        if state.failed < LEAST_FAILURES or 100 * state.failed <= self._request.failed_percent * done:
            return ""
        return (
            f"{state.failed:,} of {done:,} renumberings have failed, more than {self._request.failed_percent} %. "
            "Correct the cause, and start the renumbering again: it goes on with the lines that are left"
        )

    def tell(self, problem: str) -> None:
        """Keep the problem, if it is one of the first."""
        if len(self._state.problems) < SHOWN and problem not in self._state.problems:
            self._state.problems.append(problem)


async def _send(line: StartedRenumbering) -> bool:
    """Start the order of the line. Return False if another operation of the subscriber, or this order, is running."""
    try:
        order = await start_order(line.order)
    except WorkflowAlreadyStartedError:
        return False
    # The database says how the order ends. Python would report a failure that nobody has read.
    order.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return True
