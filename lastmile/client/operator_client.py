"""What an operator asks Temporal about orders: the running order of a subscriber, its retries, the workers."""

from datetime import UTC, datetime, timedelta

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client import answer_time
from lastmile.client.availability import describe_silence, is_stuck
from lastmile.client.credentials import CredentialStore
from lastmile.client.errors import RunStuckError
from lastmile.client.orders import Lastmile
from lastmile.client.parked_runs import ParkedRun, parked_runs
from lastmile.client.temporal.worker_versions import describe, make_current
from lastmile.contract import AnyOrder, workflow_id
from lastmile.encryption.keys import DecryptionError
from lastmile.errors import UnavailableError
from workflows.failure_details import message_of
from workflows.search_attributes import ATTENTION

__all__ = ["OperatorClient"]

# Temporal answers a worker's poll after at most a minute, and lists a stopped worker for five minutes.
_POLL = timedelta(seconds=75)


class OperatorClient:
    """A connection to Temporal with the orders behind it, for the command line and the API."""

    def __init__(self, client: Client, task_queue: str, credentials: CredentialStore | None = None) -> None:
        self.client = client
        self.orders = Lastmile(client, task_queue=task_queue, credentials=credentials)
        self.task_queue = task_queue

    async def open_order(self, tenant: str, subscriber: str) -> str:
        """Name the subscriber's order that has not ended; empty without such an order. Needs no worker."""
        try:
            found = await self.client.get_workflow_handle(workflow_id(tenant, subscriber)).describe()
        except RPCError as failure:
            if failure.status is RPCStatusCode.NOT_FOUND:
                return ""
            raise
        if found.status is not WorkflowExecutionStatus.RUNNING:
            return ""
        try:
            order_id = await found.memo_value("order_id", default=None)
        except DecryptionError:
            order_id = None
        return f"{found.workflow_type} order {order_id}" if order_id else found.workflow_type

    async def pending_retry(self, tenant: str, subscriber: str) -> str:
        """Describe the activity of the subscriber's order that Temporal retries; empty without a retry."""
        return await self.pending_retry_of(workflow_id(tenant, subscriber))

    async def pending_retry_of(self, id_: str) -> str:
        """Describe the activity of the run that Temporal retries; empty without a retry."""
        found = await self.client.get_workflow_handle(id_).describe()
        for pending in found.raw_description.pending_activities:
            if pending.HasField("last_failure"):
                failure = await self.client.data_converter.decode_failure(pending.last_failure)
                return f"Retrying {pending.activity_type.name} (attempt {pending.attempt}): {message_of(failure)}"
        return ""

    async def pending_decision(self, order: AnyOrder) -> str:
        """Describe the decision that the running order waits for; empty if its run is not parked."""
        found = await self.client.get_workflow_handle(order.workflow_id).describe()
        same = await found.memo_value("order_id", default=None) == order.order_id
        if not same or not found.typed_search_attributes.get(ATTENTION):
            return ""
        progress = await self.orders.progress(order.tenant, order.subscriber_ref)
        return progress.attention if progress else ""

    async def parked_runs(self, tenant: str | None = None, step: str | None = None) -> list[ParkedRun]:
        """Return the parked orders, the longest waiting first: all, or those of one tenant or at one step."""
        found = [run async for run in parked_runs(self.client, self.task_queue, tenant, step)]
        return sorted(found, key=lambda run: run.parked.since if run.parked else run.started_at)

    async def require_answer(self, tenant: str, subscriber: str) -> None:
        """Raise `UnavailableError` where no worker answers for the subscriber's run, `RunStuckError` where it is stuck.

        Temporal lists a frozen worker, and one that has just ended, among those that poll.
        """
        try:
            await self.orders.progress(tenant, subscriber)
        except DecryptionError:
            pass  # a worker has answered
        except (RPCError, WorkflowQueryFailedError) as failure:
            words = f"Subscriber {subscriber}: {describe_silence(failure)}. Nothing was sent"
            if is_stuck(failure):
                raise RunStuckError(
                    f"{words}. Correct the cause: Temporal then continues the run within ten minutes."
                ) from None
            raise UnavailableError(
                f"{words}. Workers have ended, or are frozen or overloaded: see `/readyz` of each, and decide again."
            ) from None

    async def temporal_answers(self) -> bool:
        """Return whether the Temporal server answers at all."""
        try:
            return await self.client.service_client.check_health(timeout=answer_time.ANSWER_TIME)
        except RPCError:
            return False

    async def worker_shortage(self) -> str:
        """Describe why no worker takes new orders, and the remedy; empty if a worker polls the task queue."""
        described = await describe(self.client, self.task_queue)
        oldest = datetime.now(UTC) - _POLL
        polling = [
            poller.deployment_options
            for poller in described.pollers
            if poller.last_access_time.ToDatetime(UTC) > oldest
        ]
        current = described.versioning_info.current_deployment_version
        if any(options.build_id == current.build_id for options in polling):
            return ""
        if others := {(options.deployment_name, options.build_id) for options in polling} - {("", "")}:
            return (
                f"No worker of the version that gets new orders ({current.build_id or 'none'}) polls task queue "
                f"{self.task_queue!r}. There are workers of {', '.join(sorted(build for _, build in others))}. "
                f"To give the orders to these workers: `{make_current(*max(others))}`."
            )
        return (
            f"No worker polls task queue {self.task_queue!r}, so orders wait until one does: "
            "start one with `python worker.py`, or a whole stack with `lastmile up`."
        )
