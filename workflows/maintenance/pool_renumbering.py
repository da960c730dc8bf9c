"""The renumbering of a pool: an ordinary renumber order for each of its lines, at a rate and in a window.

The database says which lines are left. So a run that was lost leaves nothing to be continued: the next run finds the
same lines, and sends the same orders for those that were begun. A run goes through the pool in passes, in order of
allocation. A line with another order is left to the next pass. The state does not grow with the pool, and the run
continues as new.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from lastmile.contract import Decision
from lastmile.contract.pool_renumbering import (
    PoolLines,
    PoolLinesQuery,
    PoolRenumbering,
    RenumberingProgress,
    RenumberingState,
    RenumberingStatus,
    RenumberingTurn,
    TurnReport,
)
from lastmile.fields.phrases import count_of
from workflows.maintenance.activity_call import call
from workflows.maintenance.renumbering_orders import RenumberingOrders
from workflows.maintenance.renumbering_table import renumbering_table

__all__ = ["RenumberPool"]

ATTEMPT = timedelta(minutes=5)
"""A count of a million lines takes seconds."""
ATTEMPTS = 0
"""Without a limit: a run lasts for days, and outlasts an outage of the database."""

STARTS_PER_RUN = 500
"""Temporal allows 2 000 children of a run that have not ended. Those of an earlier run do not count."""

LOOK, LONGEST_LOOK = timedelta(seconds=2), timedelta(minutes=1)
"""The pause between two looks at orders in flight. The pause grows while nothing changes."""
BUSY_PAUSE = timedelta(minutes=5)
IDLE_PASSES = 3
"""The passes that start no order, with a pause between them, after which lines with another order are left."""
GRACE = timedelta(minutes=5)
"""How long the order of a line may take after its overlap, until its old prefix counts as left."""


@workflow.defn(name="RenumberPool")
class RenumberPool:
    """Renumber the lines of one pool; its workflow id is the pool's."""

    @workflow.init
    def __init__(self, request: PoolRenumbering) -> None:
        self._request = request.model_copy(update={"so_far": None})
        self._state = request.so_far or RenumberingState()
        self._stopped = ""
        self._status = RenumberingStatus.RUNNING
        self._words = "counting the lines"
        self._waits_until: datetime | None = None
        self._orders = RenumberingOrders(self._request, self._state)
        self._look = LOOK

    @workflow.query
    def progress(self) -> RenumberingProgress:
        """Return where the renumbering stands."""
        state = self._state
        paused = bool(state.paused) and self._status in (RenumberingStatus.RUNNING, RenumberingStatus.WAITING)
        return RenumberingProgress(
            pool=self._request.pool,
            target=self._request.target,
            status=RenumberingStatus.PAUSED if paused else self._status,
            words=state.paused if paused else self._words,
            waits_until=None if paused else self._waits_until,
            renumbered=state.renumbered,
            failed=state.failed,
            in_flight=len(state.in_flight),
            left=state.left.counts if state.left else {},
            to_start=max(0, state.left.unfinished - state.started_in_pass) if state.left else 0,
            paused_at=state.paused_at if paused else None,
            tenant=self._request.tenant,
            problems=state.problems,
        )

    @workflow.update
    def pause(self, decision: Decision) -> str:
        """Start no further order until `resume`. Orders that were started go on."""
        self._state.paused = f"paused by {decision.by}: {decision.why}"
        self._state.paused_at = workflow.now()
        self._show_details()
        return self._state.paused

    @workflow.update
    def resume(self, decision: Decision) -> str:
        """Start orders again."""
        self._state.paused, self._state.paused_at = "", None
        self._show_details()
        return f"resumed by {decision.by}: {decision.why}"

    @workflow.update
    def stop(self, decision: Decision) -> str:
        """End the run. Orders that were started go on; a new run continues with the lines that are left."""
        self._stopped = f"stopped by {decision.by}: {decision.why}"
        return self._stopped

    @pause.validator
    def _check_pause(self, decision: Decision) -> None:
        self._check_running()
        if self._state.paused:
            raise ApplicationError(f"The renumbering is {self._state.paused} already.")

    @resume.validator
    def _check_resume(self, decision: Decision) -> None:
        self._check_running()
        if not self._state.paused:
            raise ApplicationError("The renumbering is not paused.")

    @stop.validator
    def _check_stop(self, decision: Decision) -> None:
        self._check_running()

    def _check_running(self) -> None:
        if self._stopped or self._status in (RenumberingStatus.STOPPED, RenumberingStatus.ENDED):
            raise ApplicationError("The renumbering has ended.")

    @workflow.run
    async def run(self, request: PoolRenumbering) -> RenumberingProgress:
        """Return when no line is left that an order could renumber. Fail when too many renumberings have failed."""
        try:
            while not self._stopped and await self._continues():
                await self._take_turn()
                if self._orders.started >= STARTS_PER_RUN or workflow.info().is_continue_as_new_suggested():
                    workflow.continue_as_new(request.model_copy(update={"so_far": self._state}))
            left = await self._count()
        except (FailureError, asyncio.CancelledError) as failure:
            if is_cancelled_exception(failure):
                self._show("cancelled; orders that were started go on", RenumberingStatus.STOPPED)
            raise
        return self._end(left)

    async def _continues(self) -> bool:
        """Go on with the pass, or begin the next one. Return False where no pass could start another order."""
        state = self._state
        while state.after is None and not self._stopped:
            left = await self._count()
            now = workflow.now()
            if left.unfinished and state.idle_passes <= IDLE_PASSES:
                if state.idle_passes:
                    busy = count_of(left.unfinished, "line has another order", "lines have another order")
                    await self._wait(now + BUSY_PAUSE, f"{busy}: trying again")
                state.after, state.complete = 0, False
            elif left.overlaps_until is None or now > left.overlaps_until + GRACE:
                return False
            else:
                if now < left.overlaps_until:
                    state.idle_passes = 0
                await self._wait(max(left.overlaps_until, now + LOOK), "no line is left: waiting for the overlaps")
        return True

    async def _take_turn(self) -> None:
        """See what became of orders in flight, start orders for the next lines, and wait for the next turn."""
        state = self._state
        await workflow.wait_condition(lambda: not state.paused or bool(self._stopped))
        if self._stopped:
            return
        began = workflow.now()
        report = await self._search(self._orders.places(began))
        self._orders.record(report.ended)
        self._check_failures()
        await self._orders.send_again()
        self._check_failures()
        if self._stopped or state.paused:  # since the search began: it is repeated
            return
        state.after, state.complete = report.after, state.complete or report.complete
        if started := await self._orders.start(report.lines):
            state.next_start = began + started * timedelta(hours=1) / self._request.lines_per_hour
        self._look = LOOK if started or report.ended else min(2 * self._look, LONGEST_LOOK)
        self._show(self._describe_flight())
        await self._wait_for_turn(began, report.opens_at)

    def _check_failures(self) -> None:
        """Raise `ApplicationError` where too many renumberings have failed."""
        if words := self._orders.too_many_failed:
            self._show(words, RenumberingStatus.STOPPED)
            raise ApplicationError(words, self.progress(), type="TooManyFailedRenumberings", non_retryable=True)

    async def _search(self, most: int) -> TurnReport:
        state = self._state
        assert state.began_at is not None
        assert state.after is not None
        report: TurnReport = await call(
            "find_lines_to_renumber",
            "find the next lines",
            RenumberingTurn(
                request=self._request,
                since=state.began_at,
                after=state.after,
                most=most,
                in_flight=state.in_flight,
            ),
            returns=TurnReport,
            attempt=ATTEMPT,
            attempts=ATTEMPTS,
        )
        return report

    async def _wait_for_turn(self, began: datetime, opens_at: datetime | None) -> None:
        """Wait until there is something to do; at the end of the pass, do not wait."""
        state = self._state
        next_start = state.next_start if state.next_start is not None and state.next_start > began else None
        if state.in_flight:
            look = began + self._look
            await self._wait(look if next_start is None or state.complete else min(look, next_start))
        elif state.complete:
            state.idle_passes = 0 if state.started_in_pass else state.idle_passes + 1
            state.after = None
        elif opens_at is not None:
            await self._wait(opens_at, "waiting for the window")
        elif next_start is not None:
            await self._wait(next_start, "waiting for the next line, as the rate demands")

    async def _count(self) -> PoolLines:
        """Count the lines that hold a prefix of the pool."""
        left: PoolLines = await call(
            "count_pool_lines",
            "count the lines of the pool",
            PoolLinesQuery(pool_id=self._request.pool_id, since=self._state.began_at),
            returns=PoolLines,
            attempt=ATTEMPT,
            attempts=ATTEMPTS,
        )
        self._state.left, self._state.started_in_pass = left, 0
        self._state.began_at = self._state.began_at or left.at
        return left

    def _end(self, left: PoolLines) -> RenumberingProgress:
        for line in left.examples:
            self._orders.tell(line)
        if self._stopped:
            self._show(f"{self._stopped}; orders that were started go on", RenumberingStatus.STOPPED)
        else:
            self._show(f"left: {left.words}" if left.words else "no line is left", RenumberingStatus.ENDED)
        return self.progress()

    async def _wait(self, until: datetime, words: str = "") -> None:
        """Wait until then, or until an operator stops the run; `words`: what for, if the progress is to say it."""
        if words:
            self._show(words, RenumberingStatus.WAITING, until)
        if (left := until - workflow.now()) > timedelta(0):
            with suppress(TimeoutError):
                await workflow.wait_condition(lambda: bool(self._stopped), timeout=left)
        if words:
            self._show("looking for the next lines")

    def _describe_flight(self) -> str:
        orders = count_of(len(self._state.in_flight), "order is changing its line", "orders are changing their lines")
        return f"{orders}; `lastmile attention` lists orders that wait for an operator"

    def _show(
        self,
        words: str,
        status: RenumberingStatus = RenumberingStatus.RUNNING,
        waits_until: datetime | None = None,
    ) -> None:
        """Answer the query, and the Temporal UI, from now on with this."""
        self._words, self._status, self._waits_until = words, status, waits_until
        self._show_details()

    def _show_details(self) -> None:
        workflow.set_current_details(renumbering_table(self.progress()))
