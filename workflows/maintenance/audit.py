"""The workflows of the audit and of the metrics snapshot. `lastmile.client.schedules.plans` says when they run."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

from activities.maintenance.messages import InvariantReport, MaintenanceReport, SnapshotReport
from lastmile.contract import AuditResult
from workflows.failure_details import message_of
from workflows.maintenance.activity_call import SHOWN, call

__all__ = ["Audit", "Metrics"]

SNAPSHOT_ATTEMPT = timedelta(seconds=30)
SHORT = timedelta(minutes=1)
CHECK_ATTEMPT = timedelta(minutes=30)
"""One invariant of ten million delegations takes minutes."""
CHECK_ATTEMPTS = 3


@workflow.defn(name="Metrics")
class Metrics:
    """Take the metrics snapshot, which every worker shows."""

    @workflow.run
    async def run(self) -> SnapshotReport:
        taken: SnapshotReport = await call(
            "take_snapshot", "take the metrics snapshot", returns=SnapshotReport, attempt=SNAPSHOT_ATTEMPT
        )
        return taken


@workflow.defn(name="Audit")
class Audit:
    """Check every invariant, repair what is safe to repair, and repeat Disconnect-Requests without a confirmation."""

    @workflow.init
    def __init__(self) -> None:
        self._violations: dict[str, int] = {}
        self._counts = {"repaired": 0, "disconnects_retried": 0, "disconnects_confirmed": 0}
        self._failed: list[str] = []
        self._problems: list[str] = []

    @workflow.query
    def progress(self) -> AuditResult:
        """Return the findings so far."""
        return self._result()

    @workflow.run
    async def run(self) -> AuditResult:
        """Run every check, even if others fail. Fail at the end if a check failed."""
        # The worker returns the names: imported names of another version would not fit the history of an open run.
        for name in await call("invariants", "list the invariants", returns=list[str], attempt=SHORT):
            checked = await self._try(
                "check_invariant", f"check: {name}", name, returns=InvariantReport, name=f"check-{name}"
            )
            if checked is not None:
                self._counts["repaired"] += checked.repaired
                if checked.violations:
                    self._violations[name] = checked.violations
        differs = await self._try("compare_with_netbox", "compare with NetBox", returns=dict[str, int])
        self._violations |= differs or {}
        retried = await self._try("retry_disconnects", "repeat unconfirmed disconnects", returns=MaintenanceReport)
        if retried is not None:
            self._counts |= retried.counts
        return await self._end()

    async def _try(self, activity: str, title: str, *content: Any, returns: Any, name: str = "") -> Any:
        """Return the result of the activity; None if it fails, which the end reports."""
        try:
            return await call(
                activity, title, *content, returns=returns, attempt=CHECK_ATTEMPT, attempts=CHECK_ATTEMPTS, name=name
            )
        except FailureError as failure:
            if is_cancelled_exception(failure):
                raise
            self._failed.append(title)
            self._problems = [*self._problems, f"{title}: {message_of(failure)}"][:SHOWN]
            return None
        finally:
            self._show()

    async def _end(self) -> AuditResult:
        result = self._result()
        await call("audit_ended", "log the findings", result.model_dump(), self._failed, returns=None, attempt=SHORT)
        if self._failed:
            words = f"not done, and left to the next run: {', '.join(self._failed)}"
            raise ApplicationError(words, result, type="AuditIncomplete", non_retryable=True)
        return result

    def _result(self) -> AuditResult:
        return AuditResult(
            violations=self._violations, errors=len(self._failed), problems=self._problems, **self._counts
        )

    def _show(self) -> None:
        """Update the current details in the Temporal UI."""
        rows = [f"| {name} | {count:,} |" for name, count in self._violations.items()]
        problems = [f"- {problem}" for problem in self._problems]
        found = ["| violated | left |", "|---|---|", *rows] if rows else ["No violation so far."]
        workflow.set_current_details("\n".join(["**Audit**", "", *found, "", *problems]))
