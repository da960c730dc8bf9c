"""The settings, the database and Temporal as every command uses them. Each fails with a sentence."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Self

from pydantic import ValidationError
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from lastmile.cli.exit_codes import UnavailableError
from lastmile.cli.output import OutputClosedError
from lastmile.client.connection import connect
from lastmile.client.orders import Lastmile
from lastmile.client.worker_versions import describe, make_current
from lastmile.contract import AnyOrder, workflow_id
from lastmile.db import Database
from lastmile.db.failures import DATABASE_FAILURES, explain, without_password
from lastmile.errors import InvalidInputError
from lastmile.settings import Settings
from lastmile.subscribers.tenants import list_tenants
from lastmile.telemetry.temporal import forward_temporal_logs
from lastmile.validation_messages import setting_mistakes
from workflows.failure_details import words_of
from workflows.search_attributes import ATTENTION

__all__ = [
    "Temporal",
    "check_tenant",
    "database_failures",
    "load_settings",
    "open_database",
    "pick_tenant",
    "the_tenant",
]

# A worker's poll is answered after a minute at the latest; one that is gone stays listed for five.
_POLL = timedelta(seconds=75)


def load_settings(*, with_stack: bool = True) -> Settings:
    """Load the settings, `with_stack` also those of a running embedded stack. Raises `InvalidInputError`."""
    try:
        return Settings.load() if with_stack else Settings()
    except ValidationError as failure:
        problems = setting_mistakes(failure, Settings)
        raise InvalidInputError("The environment has settings that cannot be used:", problems) from None


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database, with whatever is wrong with it raised as `UnavailableError`."""
    if settings.database_url is None:
        raise UnavailableError(
            f"There is no database to ask: DATABASE_URL is not set, and no stack runs in {settings.state_dir}. "
            "Start one with `lastmile up`, or set DATABASE_URL."
        )
    url = str(settings.database_url)
    database = Database(url, pool_size=settings.database_pool_size)
    try:
        async with database_failures(url):
            yield database
    finally:
        await database.close()


@asynccontextmanager
async def database_failures(url: str) -> AsyncIterator[None]:
    """Raise `UnavailableError` where the database is away or is not Lastmile's; other failures pass unchanged."""
    try:
        yield
    except OutputClosedError:
        raise
    except DATABASE_FAILURES as failure:
        if (words := explain(failure, url)) is None:
            raise
        raise UnavailableError(f"The database {without_password(url)} cannot be used: {words}") from failure


class Temporal:
    """A connection to Temporal, and the orders behind it."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self.client = client
        self.orders = Lastmile(client, task_queue=task_queue)
        self._task_queue = task_queue

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """Raises `lastmile.client.connection.Unreachable`."""
        forward_temporal_logs()  # the command has its own words for a server that is away
        return cls(await connect(settings.environment, settings.key_ring), settings.task_queue)

    async def open_run(self, tenant: str, subscriber: str) -> str:
        """Name the subscriber's order that has not ended; empty where there is none. Needs no worker."""
        try:
            found = await self.client.get_workflow_handle(workflow_id(tenant, subscriber)).describe()
        except RPCError as failure:
            if failure.status is RPCStatusCode.NOT_FOUND:
                return ""
            raise
        if found.status is not WorkflowExecutionStatus.RUNNING:
            return ""
        order_id = await found.memo_value("order_id", default=None)
        return f"{found.workflow_type} order {order_id}" if order_id else found.workflow_type

    async def tried_again(self, tenant: str, subscriber: str) -> str:
        """Return the failure that an activity of the subscriber's order is retried after; empty without a retry."""
        found = await self.client.get_workflow_handle(workflow_id(tenant, subscriber)).describe()
        for pending in found.raw_description.pending_activities:
            if pending.HasField("last_failure"):
                failure = await self.client.data_converter.decode_failure(pending.last_failure)
                return f"Retrying {pending.activity_type.name} (attempt {pending.attempt}): {words_of(failure)}"
        return ""

    async def waits_for_decision(self, order: AnyOrder) -> str:
        """Return what an operator has to decide about the running order; empty where its run is not parked."""
        found = await self.client.get_workflow_handle(order.workflow_id).describe()
        same = await found.memo_value("order_id", default=None) == order.order_id
        if not same or not found.typed_search_attributes.get(ATTENTION):
            return ""
        progress = await self.orders.progress(order.tenant, order.subscriber_ref)
        return progress.attention if progress else ""

    async def lack_of_workers(self) -> str:
        """Return the reason why no worker takes new orders; empty where a worker polls the task queue."""
        described = await describe(self.client, self._task_queue)
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
                f"{self._task_queue!r}. There are workers of {', '.join(sorted(build for _, build in others))}. "
                f"To give the orders to these workers: `{make_current(*max(others))}`."
            )
        return (
            f"No worker polls task queue {self._task_queue!r}, so orders wait until one does: "
            "start one with `python worker.py`, or a whole stack with `lastmile up`."
        )


async def check_tenant(database: Database, tenant: str | None) -> None:
    """Check an optional `--tenant`. Raises `InvalidInputError` where no tenant has this id."""
    if tenant is not None:
        await pick_tenant(database, tenant)


async def pick_tenant(database: Database, tenant: str | None) -> str:
    """Return the tenant that is meant; without a name it is the only one. Raises `InvalidInputError`."""
    async with database.platform() as connection:
        known = [row["id"] for row in await list_tenants(connection)]
    if not known:
        raise InvalidInputError("There are no tenants yet: add one with `lastmile tenant add ID --name NAME`.")
    if tenant is None and len(known) > 1:
        raise InvalidInputError(f"There are several tenants: say which one with --tenant ({', '.join(known)}).")
    if tenant is not None and tenant not in known:
        raise InvalidInputError(f"There is no tenant {tenant!r}. The tenants are: {', '.join(known)}.")
    return tenant or known[0]


async def the_tenant(settings: Settings, tenant: str | None) -> str:
    """As `pick_tenant`, for a command that needs the database for nothing else."""
    async with open_database(settings) as database:
        return await pick_tenant(database, tenant)
