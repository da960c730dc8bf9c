"""Where the cases are played: one PostgreSQL, one Temporal, one NAS, one worker for what loses none, and a tenant and
a pool for each case."""

import base64
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from pydantic import SecretStr
from sqlalchemy.util import await_only
from temporalio import activity
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.current_step import activity_type
from ipam.netbox import NetBox
from ipam.pools import Pool, add_pool
from lastmile.client import CredentialStore
from lastmile.client.orders import Lastmile
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.subscribers.tenants import add_tenant
from lastmile.worker import build_worker
from tests.support.faults import Fault, Faults, listen_to_commits
from tests.support.orders import Orders
from tests.workflows.every_way.controllers import CaseControllers
from tests.workflows.every_way.netbox_pools import NetBoxPools
from tests.workflows.every_way.shared_audit import SharedAudit
from tests.workflows.every_way.short_waits import ShortWaits

__all__ = ["CaseEnvironment", "case_environment"]

SECRET = "a shared secret"
KEYS = SecretStr(f"k1:{base64.b64encode(bytes(range(32))).decode()}")
"""For the passwords that orders give: the payloads in Temporal are in clear text."""


class AtCommit(dict[tuple[str, str], Fault]):
    """What happens when a transaction of an activity is about to be committed, by workflow id and activity type.

    The transaction of a step in a group is a savepoint.
    """

    def __init__(self, database: Database) -> None:
        super().__init__()
        listen_to_commits(database, self._at_commit)

    def _at_commit(self) -> None:
        if fault := self.get((str(activity.info().workflow_id), activity_type())):
            await_only(fault())


@dataclass
class CaseEnvironment:
    """The servers, and clients of them."""

    address: str
    database_url: str
    client: Client
    database: Database
    owner: asyncpg.Pool
    authorization: DynamicAuthorization
    nas: ScriptedNas
    faults: Faults
    at_commit: AtCommit
    audit: SharedAudit
    settings: Settings
    pools: NetBoxPools | None = None
    """Where the pools are kept, if not in the database alone."""
    controllers: CaseControllers | None = None
    """The controllers of all devices, if there are any."""
    numbers: Any = field(default_factory=itertools.count)

    @property
    def _name(self) -> str:
        return self.pools.way if self.pools else "c" if self.controllers else "t"

    @property
    def lastmile(self) -> Lastmile:
        """Who sends orders to the worker that none of them loses."""
        credentials = CredentialStore(self.database_url, self.settings.key_ring)
        return Lastmile(self.client, task_queue=self.settings.task_queue, credentials=credentials)

    @property
    def with_short_waits(self) -> Client:
        """Starts runs whose worker will be lost."""
        config = self.client.config()
        return Client(**config | {"interceptors": [*config["interceptors"], ShortWaits()]})

    def settings_for(self, task_queue: str) -> Settings:
        return self.settings.model_copy(update={"task_queue": task_queue})

    @asynccontextmanager
    async def worker(self, task_queue: str) -> AsyncIterator[None]:
        """A worker on a task queue of its own."""
        settings = self.settings_for(task_queue)
        async with AsyncExitStack() as stack:
            netbox = await stack.enter_async_context(NetBox(**settings.netbox)) if settings.netbox else None
            worker = build_worker(
                self.client,
                settings,
                self.database,
                self.authorization,
                netbox=netbox,
                controllers=self.controllers and self.controllers.urls.clients(),
            )
            await stack.enter_async_context(worker)
            yield

    async def tenant(self, ref: str) -> Orders:
        """Orders of a subscriber that is alone in a tenant of its own, with a pool of its own."""
        number = next(self.numbers)
        tenant = f"{self._name}{number}"  # the environments share one Temporal
        prefix = f"2001:db8:{number:x}::/48"
        pool = Pool(name="home", prefix=prefix, purpose=Purpose.IPV6_PD, delegated_length=56, tenant=tenant)
        if self.pools is not None:
            pool = pool.model_copy(update={"netbox": await self.pools.binding(tenant, prefix)})
        async with self.database.platform() as platform:
            await add_tenant(platform, tenant, tenant)
            await add_pool(platform, pool)
        if self.pools is not None:
            await self.pools.open(self.database, tenant)
        return Orders(ref, tenant)

    async def log_in(self, orders: Orders) -> None:
        """The subscriber has a session on the NAS, as FreeRADIUS's accounting records it."""
        session = f"{orders.tenant}-1"
        user = f"{orders.ref}@{orders.tenant}.lastmile"
        self.nas.sessions[session] = {"User-Name": user}
        await self.owner.execute(
            "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime)"
            " VALUES ($1, $1, $2, $3, now())",
            session,
            user,
            self.nas.nas.address,
        )


@asynccontextmanager
async def case_environment(
    address: str,
    database_url: str,
    pools: NetBoxPools | None = None,
    controllers: CaseControllers | None = None,
) -> AsyncIterator[CaseEnvironment]:
    """On a Temporal server and a migrated database without tenants, by the owner's URL; with the given pools and
    controllers."""
    faults = Faults()
    client = await Client.connect(address, data_converter=pydantic_data_converter, interceptors=[faults])
    settings = Settings(
        task_queue=f"every-way-{pools.way}" if pools else f"every-way{'-controlled' * bool(controllers)}",
        radius_timeout_seconds=10,
        quarantine_seconds=3600,
        quarantine_unconfirmed_seconds=7200,
        encryption_keys=KEYS,
        database_pool_size=32,
        max_concurrent_workflow_tasks=64,  # cases wait inside of steps, which hold their slots
        **(pools.settings if pools else {}),
    )
    database = Database(database_url, pool_size=settings.database_pool_size)
    async with (
        ScriptedNas(SECRET.encode()) as nas,
        asyncpg.create_pool(database_url, min_size=1, max_size=4) as owner,
        DynamicAuthorization(timeout=10, tries=3, in_flight=64) as authorization,
        SharedAudit.running(database) as audit,
    ):
        await owner.execute(
            "INSERT INTO nas (nasname, shortname, type, secret, coa_port)"
            " VALUES ('127.0.0.1', 'bng-1', 'mikrotik', $1, $2)",
            SECRET,
            nas.nas.port,
        )
        ready = CaseEnvironment(
            address,
            database_url,
            client,
            database,
            owner,
            authorization,
            nas,
            faults,
            AtCommit(database),
            audit,
            settings,
            pools,
            controllers,
        )
        # Thousands of scripted failures, each with its traceback, are no news.
        log = logging.getLogger("temporalio.activity")
        log.setLevel(logging.ERROR)
        try:
            async with ready.worker(settings.task_queue):
                yield ready
        finally:
            log.setLevel(logging.NOTSET)
            await database.close()
