"""The daily cleanup, part by part. A failed part does not stop the others; the next run tries it again.

A child workflow finishes the revocations of a subscriber. It holds the subscriber's workflow id, as every operation
does: it never runs beside an order, and an open order, also a parked one, keeps it from starting.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError, FailureError, WorkflowAlreadyStartedError, is_cancelled_exception
from temporalio.workflow import ParentClosePolicy

from activities.maintenance.messages import MaintenanceReport, MaintenanceSearch, RevocationReport, Stuck
from lastmile.contract import Cleanup, CleanupResult, CleanupState, workflow_id
from workflows.failure_details import message_of
from workflows.identity import check_workflow_id
from workflows.maintenance.activity_call import SHOWN, call
from workflows.search_attributes import OPERATION, TENANT

__all__ = ["FinishRevocation", "StalePrefixCleanup"]

FINISH = "finish_revocation"
SIDE_BY_SIDE = 16
"""The number of children at a time, each of which ends the sessions of one subscriber."""
ATTEMPT = timedelta(minutes=2)
LONGEST_ATTEMPT = timedelta(minutes=15)


@workflow.defn(name="FinishRevocation")
class FinishRevocation:
    """Finish the revocations of one subscriber. Its workflow id is the subscriber's."""

    @workflow.query
    def progress(self) -> None:
        """Answer that this run belongs to no order."""

    @workflow.run
    async def run(self, stuck: Stuck) -> RevocationReport:
        check_workflow_id(workflow_id(stuck.tenant, stuck.subscriber_ref), "FinishRevocation")
        finished: RevocationReport = await call(
            FINISH, "end the session, release the addresses", stuck, returns=RevocationReport, attempt=ATTEMPT
        )
        return finished


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the cleanup: one activity."""

    activity: str
    title: str
    older_than: Callable[[Cleanup], timedelta] = lambda _: timedelta(0)
    attempt: timedelta = ATTEMPT


PARTS = (
    Part("stuck_revocations", "complete stuck revocations", lambda limits: timedelta(hours=limits.revoking_hours)),
    Part("report_leaks", "report leaked prefixes", lambda limits: timedelta(hours=limits.allocated_hours)),
    Part("delete_revoked", "delete old delegations", lambda limits: timedelta(days=limits.revoked_days)),
    Part("purge_history", "purge history older than the audit period"),
    Part("remove_from_netbox", "delete NetBox records after quarantine", attempt=LONGEST_ATTEMPT),
)


@workflow.defn(name="StalePrefixCleanup")
class StalePrefixCleanup:
    """Run all parts of the cleanup. Without an input, with the default limits."""

    @workflow.init
    def __init__(self, limits: Cleanup | None = None) -> None:
        self._limits = limits or Cleanup()
        self._state = self._limits.so_far or CleanupState(result=CleanupResult(dry_run=self._limits.dry_run))

    @workflow.query
    def progress(self) -> CleanupResult:
        """Return what has been done so far."""
        return self._state.result

    @workflow.run
    async def run(self, limits: Cleanup | None = None) -> CleanupResult:
        """Run every part, even if others fail. Fail at the end if a part failed."""
        while self._state.part < len(PARTS):
            self._show()
            part = PARTS[self._state.part]
            try:
                more = await self._some(part)
            except FailureError as failure:
                if is_cancelled_exception(failure):
                    raise
                self._part_failed(part, failure)
                more = False
            if not more:
                self._state.part += 1
                self._state.after = None
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self._limits.model_copy(update={"so_far": self._state}))
        return await self._end()

    async def _some(self, part: Part) -> bool:
        """Do some of the part, and return whether there is more to do."""
        search = MaintenanceSearch(
            older_than=part.older_than(self._limits), after=self._state.after, dry_run=self._limits.dry_run
        )
        done: MaintenanceReport = await call(
            part.activity, part.title, search, returns=MaintenanceReport, attempt=part.attempt
        )
        self._count(**done.counts)
        self._tell(done.lines, failed=bool(done.counts.get("errors")))
        if self._limits.dry_run:
            self._tell([f"{_name(stuck)}: the revocation has not ended" for stuck in done.stuck])
        else:
            turns = asyncio.Semaphore(SIDE_BY_SIDE)
            await asyncio.gather(*(self._finish(stuck, turns) for stuck in done.stuck))
        self._state.after = done.after
        return done.more

    async def _finish(self, stuck: Stuck, turns: asyncio.Semaphore) -> None:
        """Finish the subscriber's revocations in a child, unless an order of the subscriber is open."""
        subscriber = _name(stuck)
        try:
            async with turns:
                finished: RevocationReport = await workflow.execute_child_workflow(
                    "FinishRevocation",
                    stuck,
                    id=workflow_id(stuck.tenant, stuck.subscriber_ref),
                    result_type=RevocationReport,
                    parent_close_policy=ParentClosePolicy.ABANDON,
                    search_attributes=TypedSearchAttributes(
                        [SearchAttributePair(TENANT, stuck.tenant), SearchAttributePair(OPERATION, FINISH)]
                    ),
                    static_summary=f"finish the revocations of {stuck.subscriber_ref}",
                )
        except WorkflowAlreadyStartedError:
            self._tell([f"{subscriber}: left to an order, which is at work on it or waits for a person"])
        except FailureError as failure:
            if is_cancelled_exception(failure):
                raise
            self._count(errors=1)
            self._tell([f"{subscriber}: {message_of(failure)}"], failed=True)
        else:
            self._count(revoking_completed=finished.completed)
            self._tell([f"{subscriber}: {problem}" for problem in finished.problems])

    def _part_failed(self, part: Part, failure: FailureError) -> None:
        self._state.failed.append(part.title)
        self._count(errors=1)
        self._tell([f"{part.title}: {message_of(failure)}"], failed=True)

    def _count(self, **counts: int) -> None:
        result = self._state.result
        more = {name: getattr(result, name) + count for name, count in counts.items()}
        self._state.result = result.model_copy(update=more)

    def _tell(self, lines: list[str], *, failed: bool = False) -> None:
        """Keep the first lines, for an operator."""
        kept = self._state.result.problems if failed else self._state.lines
        kept += lines[: SHOWN - len(kept)]

    async def _end(self) -> CleanupResult:
        self._show()
        counts = self._state.result.model_dump(exclude={"notes"})  # logs name no subscriber
        await call("cleanup_ended", "say what was done", counts, self._state.failed, returns=None, attempt=ATTEMPT)
        result = self._state.result.model_copy(update={"notes": self._state.lines})
        if self._state.failed:
            words = f"not done, and left to the next run: {', '.join(self._state.failed)}"
            raise ApplicationError(words, result, type="CleanupIncomplete", non_retryable=True)
        return result

    def _show(self) -> None:
        """Update the current details in the Temporal UI."""
        state = self._state
        heading = "**Dry run: nothing is changed**" if state.result.dry_run else "**Cleanup**"
        now = f": {PARTS[state.part].title}" if state.part < len(PARTS) else ": done"
        counts = [f"| {name} | {count:,} |" for name, count in state.result if isinstance(count, int)]
        problems = [f"- {line}" for line in [*state.result.problems, *state.lines]]
        workflow.set_current_details("\n".join([heading + now, "", "| | |", "|---|---|", *counts, "", *problems]))


def _name(stuck: Stuck) -> str:
    return f"{stuck.tenant}, subscriber {stuck.subscriber_ref}"
