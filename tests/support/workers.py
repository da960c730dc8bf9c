"""Workers in this process."""

from contextlib import AsyncExitStack

from temporalio.client import Client

from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker

__all__ = ["Working"]


class Working:
    """`async with` runs a worker."""

    def __init__(self, client: Client, settings: Settings, database: Database) -> None:
        self._parts = client, settings, database
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> None:
        authorization = await self._exit.enter_async_context(DynamicAuthorization(timeout=2, tries=1, in_flight=8))
        await self._exit.enter_async_context(build_worker(*self._parts, authorization))

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()
