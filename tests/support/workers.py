"""Workers in this process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from temporalio.client import Client

from ipam.netbox import NetBox
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker

__all__ = ["RunningWorker", "worker_with_netbox"]


class RunningWorker:
    """A worker in this process that runs within `async with`."""

    def __init__(self, client: Client, settings: Settings, database: Database, netbox: NetBox | None = None) -> None:
        self._parts = client, settings, database
        self._netbox = netbox
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> None:
        authorization = await self._exit.enter_async_context(DynamicAuthorization(timeout=2, tries=1, in_flight=8))
        await self._exit.enter_async_context(build_worker(*self._parts, authorization, netbox=self._netbox))

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()


@asynccontextmanager
async def worker_with_netbox(
    client: Client, settings: Settings, database_url: str, server: NetBoxServer
) -> AsyncIterator[None]:
    """Run a worker with a NetBox client and its own database connections."""
    database = Database(database_url)
    try:
        async with NetBox(server.url, server.token) as netbox, RunningWorker(client, settings, database, netbox):
            yield
    finally:
        await database.close()
