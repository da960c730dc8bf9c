"""The change of a pool's NetBox mode, while orders continue.

Stage by stage: what NetBox has to write is prepared while the pool is open. Then the pool is closed to new allocations,
the orders that NetBox is choosing a prefix for end, the rest is prepared, and one transaction converts the pool and
opens it. Releases continue throughout. Wherever a change stops, the pool is in one mode and is opened, and the same
request continues from there.
"""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from lastmile.contract.pool_modes import (
    PoolInFlight,
    PoolModeChange,
    PoolModeProgress,
    PoolModeStage,
    PoolStage,
    Prepared,
)
from workflows.failure_details import message_of
from workflows.maintenance.activity_call import call
from workflows.shielding import shielded

__all__ = ["ChangePoolMode"]

ATTEMPT = timedelta(minutes=5)
"""Of a preparation, whose single steps wait for NetBox."""
CONVERSION = timedelta(minutes=30)
"""A pool of a million prefixes takes a minute or two."""
SHORT = timedelta(minutes=1)
ATTEMPTS, ATTEMPTS_CLOSED = 10, 4
"""While the pool is closed orders wait, so an outage of NetBox is waited for less long."""

ROUNDS = 60
ROUND = timedelta(seconds=1)
"""What other orders do in a closed pool is over in seconds, except where an order is retried."""


@workflow.defn(name="ChangePoolMode")
class ChangePoolMode:
    """Bring one pool to the requested mode; its workflow id is the pool's."""

    @workflow.init
    def __init__(self, change: PoolModeChange) -> None:
        self._change = change
        self._progress = PoolModeProgress(pool=change.pool, words="planning")
        self._calls = 0

    @workflow.query
    def progress(self) -> PoolModeProgress:
        """Where the change stands."""
        return self._progress

    @workflow.run
    async def run(self, change: PoolModeChange) -> PoolModeProgress:
        """Return when the pool has the requested mode. A failure or a cancel leaves it open, in the mode it names."""
        stages = change.stages
        try:
            if stages is None:
                stages = await self._call("plan_pool_mode", "plan the change", change, returns=list[PoolModeStage])
            for number, stage in enumerate(stages):
                work = PoolStage(pool_id=change.pool_id, stage=stage, requested_by=change.requested_by)
                await self._prepare(work, stages[number:])
                await self._convert(work)
        except (Exception, asyncio.CancelledError) as failure:
            await shielded(self._stop(failure))
            raise
        self._show("done", closed=False)
        return self._progress

    async def _prepare(self, work: PoolStage, stages: list[PoolModeStage]) -> None:
        """Prepare the stage, however long NetBox takes, or for as long as this run's history has room."""
        while not await self._prepared(work):
            work = work.model_copy(update={"first": False})
            if not work.closed and workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self._change.model_copy(update={"stages": stages}))

    async def _prepared(self, work: PoolStage) -> bool:
        """Prepare some of it; return whether nothing is left."""
        prepared: Prepared = await self._call(
            "prepare_pool", "prepare NetBox", work, returns=Prepared, attempt=ATTEMPT, closed=work.closed
        )
        self._show(prepared.words, closed=work.closed)
        return prepared.left == 0

    async def _convert(self, work: PoolStage) -> None:
        """Close the pool, convert it, and return the blocks that it does not need any more."""
        work = work.model_copy(update={"closed": True, "first": True})
        for _ in range(ROUNDS):
            await self._close(work)
            await self._prepare(work, [])
            await self._close(work)
            self._show("converting", closed=True)
            if await self._call("convert_pool", "convert", work, returns=bool, attempt=CONVERSION, closed=True):
                break
            work = work.model_copy(update={"first": False})
            await workflow.sleep(ROUND)
        else:
            raise ApplicationError(
                f"the prefixes of pool {self._change.pool} change faster than NetBox can be prepared: the same change "
                "again continues",
                type="PoolBusyError",
                non_retryable=True,
            )
        self._show("returning blocks to NetBox", closed=False)
        try:
            await self._call("return_blocks", "return blocks to NetBox", work, attempt=ATTEMPT)
        except FailureError:
            # Failed or cancelled: the pool is converted, and the workers' block maintenance returns what is left.
            workflow.logger.warning("pool_mode.blocks_left", extra={"pool": self._change.pool})

    async def _close(self, work: PoolStage) -> None:
        """Close the pool to new allocations, and wait until NetBox chooses a prefix for no order."""
        for _ in range(ROUNDS):
            found: PoolInFlight = await self._call(
                "close_pool", "close to new allocations", work, returns=PoolInFlight, attempt=SHORT, closed=True
            )
            if not found.subscribers:
                return
            waiting = ", ".join(found.subscribers)
            self._show(f"waiting for the orders of {waiting}, which NetBox is choosing a prefix for", closed=True)
            await workflow.sleep(ROUND)
        raise ApplicationError(
            f"orders for {waiting} wait for a prefix of pool {self._change.pool}: see `lastmile status` of each, and "
            "try again when they have ended",
            type="PoolBusyError",
            non_retryable=True,
        )

    async def _stop(self, failure: BaseException) -> None:
        """Open the pool, and say how it is kept now."""
        what = "cancelled" if is_cancelled_exception(failure) else message_of(failure)
        try:
            mode = await self._call("open_pool", "open to new allocations", self._change.pool_id, returns=str)
        except FailureError as away:
            self._show(f"{what}. The pool could not be opened, and opens by itself in minutes: {message_of(away)}")
        else:
            self._show(f"{what}. The pool is {mode}, and this change does not close it any more")

    async def _call(
        self,
        activity: str,
        summary: str,
        content: Any,
        *,
        returns: Any = None,
        attempt: timedelta = SHORT,
        closed: bool = False,
    ) -> Any:
        # A completed activity can hide a cancel that came meanwhile.
        if activity != "open_pool" and workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError
        self._calls += 1
        return await call(
            activity,
            summary,
            content,
            returns=returns,
            attempt=attempt,
            attempts=ATTEMPTS_CLOSED if closed else ATTEMPTS,
            name=f"{activity}-{self._calls}",
            cancellation=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

    def _show(self, words: str, *, closed: bool = False) -> None:
        """Answer the query, and the Temporal UI, from now on with this."""
        self._progress = PoolModeProgress(pool=self._change.pool, closed=closed, words=words)
        state = "closed to new allocations" if closed else "open"
        workflow.set_current_details(f"**Pool {self._change.pool}** ({state})\n\n{words}")
