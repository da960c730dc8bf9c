"""Start orders, wait for their results, read their progress, cancel them and decide about parked steps."""

from collections.abc import Coroutine, Generator
from contextlib import suppress
from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from lastmile.client import answer_time
from lastmile.client.availability import START_ATTEMPTS, START_PATIENCE_SECONDS, retry_unavailable
from lastmile.client.credentials import Credentials, CredentialStore
from lastmile.client.errors import (
    AlreadyRunningError,
    NotRunningError,
    NotScheduledError,
    OrderIdReusedError,
    OrderRefusedError,
    RunLostError,
)
from lastmile.client.order_run import OrderRun
from lastmile.client.scheduled_orders import ScheduledOrder, ScheduledOrders
from lastmile.client.temporal.connection import connect
from lastmile.client.temporal.sdk_threads import wait_for_threads
from lastmile.contract import AnyOrder, Decision, OrderResult, Progress, workflow_id
from lastmile.contract.operations import order_type
from lastmile.encryption.keys import DecryptionError, KeyRing
from lastmile.errors import InvalidInputError, UnavailableError
from lastmile.fields.phrases import format_time
from workflows.search_attributes import STEP
from workflows.start_options import memo, priority, search_attributes, summary

__all__ = [
    "AlreadyRunningError",
    "Lastmile",
    "NotRunningError",
    "NotScheduledError",
    "OrderIdReusedError",
    "OrderRefusedError",
    "OrderRun",
    "PendingConnection",
    "RunLostError",
    "ScheduledOrder",
]


class Lastmile:
    """The client of a Lastmile installation, on a Temporal client with Lastmile's data converter (`connect`)."""

    def __init__(
        self, client: Client, *, task_queue: str = "lastmile", credentials: CredentialStore | None = None
    ) -> None:
        self.client = client
        """The connection to Temporal."""
        self._task_queue = task_queue
        self._credentials = credentials
        self.scheduled = ScheduledOrders(client, task_queue)
        """The scheduled orders: hold, list, move and cancel them."""

    @classmethod
    def connect(
        cls, *, task_queue: str = "lastmile", keys: KeyRing | None = None, database_url: str | None = None
    ) -> "PendingConnection":
        """Connect with the Temporal SDK's environment configuration: `async with Lastmile.connect() as lastmile`.

        `keys` are those of Lastmile's workers, where these have any. Only orders that give a password, and the query
        for credentials, need `database_url`: Lastmile's database. Raises `TemporalUnreachableError`.
        """
        credentials = None if database_url is None else CredentialStore(database_url, keys)
        return PendingConnection(connect(keys=keys), task_queue, credentials)

    async def execute(self, order: AnyOrder) -> OrderResult:
        """Start the order and return its result. An order whose `not_before` is ahead returns `scheduled` at once."""
        return await (await self.start(order)).result()

    async def start(self, order: AnyOrder) -> OrderRun:
        """Start the order. The same order again returns its run, or its result.

        A password that the order gives is stored encrypted first, and does not reach Temporal.

        An order whose `not_before` is ahead is held by a Temporal Schedule until then, and has not started.
        Raises `AlreadyRunningError` where the subscriber is being worked on and `OrderIdReusedError` where that is by
        an order of this id with other content.
        """
        order = await self._without_password(order)
        try:
            return await self.start_kept(order)
        except AlreadyRunningError:
            # A scheduled order of this id may be waiting for its turn: it needs its password.
            if getattr(order, "password_ref", None) and order.not_before is None:
                await self._stored_credentials().forget_password(order)
            raise

    async def start_kept(self, order: AnyOrder) -> OrderRun:
        """Start an order as `start` does, for a caller that keeps the order until it has started.

        The password of the order is stored already, and stays stored where the subscriber is being worked on.
        """
        if held := await retry_unavailable(lambda: self.scheduled.hold(order), START_PATIENCE_SECONDS):
            return OrderRun(order, self._run(order, None), held)
        return await self._start_now(order)

    async def _start_now(self, order: AnyOrder) -> OrderRun:
        for _ in range(START_ATTEMPTS):
            try:
                return OrderRun(order, await retry_unavailable(lambda: self._start(order), START_PATIENCE_SECONDS))
            except WorkflowAlreadyStartedError:
                if found := await self._running(order):
                    return found
        raise AlreadyRunningError(
            f"Subscriber {order.subscriber_ref} is busy: other operations keep starting. Try again."
        )

    async def _without_password(self, order: AnyOrder) -> AnyOrder:
        if getattr(order, "password", None) is None:
            return order
        return await self._stored_credentials().store_password(order)

    async def credentials(self, tenant: str, subscriber_ref: str, *, asked_by: str) -> Credentials:
        """Return the user name and the password of a line, to set up its CPE. The audit log records the read.

        Raises `UnknownSubscriberError` without an account, and `InvalidInputError` for a client without a database.
        """
        return await self._stored_credentials().read(tenant, subscriber_ref, asked_by=asked_by)

    def _stored_credentials(self) -> CredentialStore:
        if self._credentials is None:
            raise InvalidInputError(
                "This client has no database, which it needs for credentials. Connect with `database_url`, and with "
                "the `keys` of Lastmile's workers, or let Lastmile generate the password."
            )
        return self._credentials

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
        """Return the open run of the subscriber, if it belongs to this order; None where it has just ended."""
        run = await self.client.get_workflow_handle(order.workflow_id).describe()
        if run.status is not WorkflowExecutionStatus.RUNNING:
            return None
        order_id = await run.memo_value("order_id", default=None)
        if order_id is None:
            raise AlreadyRunningError(
                f"{run.workflow_type} of subscriber {order.subscriber_ref} is running (run {run.run_id}). "
                "It belongs to no order and is short: try again."
            )
        # The run's own type: the error names the type that was asked for.
        if order_id != order.order_id:
            raise AlreadyRunningError(
                f"{run.workflow_type} of subscriber {order.subscriber_ref} is already running, for order {order_id} "
                f"(run {run.run_id}). {await self._advice(run)}"
            )
        if await run.memo_value("digest", default="") != order.digest:
            raise OrderIdReusedError(
                f"Order {order.order_id} is running with other content. Send each order with its own id."
            )
        return OrderRun(order, self._run(order, run.run_id))

    async def _advice(self, running: WorkflowExecutionDescription) -> str:
        """Say what to do about a running order. One in its overlap takes no cancel, and says when it will end."""
        until = None
        if running.typed_search_attributes.get(STEP) is not None:  # the run waits, or is parked: it answers
            run = self.client.get_workflow_handle(running.id, run_id=running.run_id)
            with suppress(RPCError, WorkflowQueryFailedError):
                progress = await run.query("progress", result_type=Progress, rpc_timeout=answer_time.ANSWER_TIME)
                until = progress.waits_until
        if until is None:
            return "Wait for it, or cancel it."
        return (
            f"It waits until {format_time(until)} for the end of its overlap. Send the order with `not_before` "
            f"{until:%Y-%m-%dT%H:%M:%SZ}: it then starts by itself."
        )

    def _run(self, order: AnyOrder, run_id: str | None) -> WorkflowHandle[Any, OrderResult]:
        return self.client.get_workflow_handle(order.workflow_id, run_id=run_id, result_type=OrderResult)

    async def progress(self, tenant: str, subscriber_ref: str) -> Progress | None:
        """Return the progress of the subscriber's newest run; None where Temporal has no run of an order.

        Raises `RPCError` where no worker answers within `ANSWER_TIME`.
        """
        handle = self.client.get_workflow_handle(workflow_id(tenant, subscriber_ref))
        try:
            progress: Progress | None = await handle.query(
                "progress", result_type=Progress, rpc_timeout=answer_time.ANSWER_TIME
            )
            return progress
        except RPCError as failure:
            if failure.status is RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def cancel(self, tenant: str, subscriber_ref: str) -> None:
        """Ask the running order to stop and roll back. Raises `NotRunningError`."""
        handle = self.client.get_workflow_handle(workflow_id(tenant, subscriber_ref))
        nothing = NotRunningError(f"No order of subscriber {subscriber_ref} is running.")
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

    async def decide(self, tenant: str, subscriber_ref: str, update: str, decision: Decision) -> str:
        """Send a decision (`retry_step`, `skip_step` or `abandon`) about the parked step, and return the answer.

        Raises `NotRunningError` where nothing is parked, and `UnavailableError` where no worker answers within
        `ANSWER_TIME`: the run follows the decision when a worker is back.
        """
        handle = self.client.get_workflow_handle(workflow_id(tenant, subscriber_ref))
        try:
            return str(
                await handle.execute_update(update, decision, result_type=str, rpc_timeout=answer_time.ANSWER_TIME)
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            raise UnavailableError(
                f"The decision was sent, and no worker has answered within {answer_time.ANSWER_TIME.seconds} s. "
                f"The run of subscriber {subscriber_ref} follows it when a worker is back: do not send it again, and "
                f"see `lastmile status {subscriber_ref}` then."
            ) from None
        except DecryptionError as failure:
            raise UnavailableError(
                f"The decision was sent, and the worker's answer cannot be read. {failure} "
                f"`lastmile status {subscriber_ref}` shows what came of it."
            ) from None
        except WorkflowUpdateFailedError as failure:
            cause = failure.cause
            # Its text begins with its type, which is for programs.
            raise NotRunningError(cause.message if isinstance(cause, ApplicationError) else str(cause)) from failure
        except RPCError as failure:
            if failure.status is RPCStatusCode.NOT_FOUND:
                raise NotRunningError(f"No order of subscriber {subscriber_ref} is running.") from failure
            raise


class PendingConnection:
    """A connection that is not open yet: enter it with `async with`, or await it."""

    def __init__(
        self, client: Coroutine[Any, Any, Client], task_queue: str, credentials: CredentialStore | None = None
    ) -> None:
        self._client = client
        self._task_queue = task_queue
        self._credentials = credentials

    def __await__(self) -> Generator[Any, None, Lastmile]:
        return self._connect().__await__()

    async def __aenter__(self) -> Lastmile:
        return await self._connect()

    async def __aexit__(self, *_: object) -> None:
        await wait_for_threads()

    async def _connect(self) -> Lastmile:
        return Lastmile(await self._client, task_queue=self._task_queue, credentials=self._credentials)
