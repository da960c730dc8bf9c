"""The REST API in this process, on a socket, as programs outside reach it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from temporalio.client import Client

from lastmile.api.app import create_app
from lastmile.api.auth.gate import open_gate
from lastmile.api.context import ApiContext
from lastmile.api.serve import listen
from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.order_watch import OrderWatch
from lastmile.db import Database
from lastmile.devstack.ports import HOST
from lastmile.settings import Settings
from lastmile.telemetry.readiness import Readiness

__all__ = ["api_context", "serving"]


@asynccontextmanager
async def api_context(settings: Settings, database: Database, client: Client) -> AsyncIterator[ApiContext]:
    """Open what the routers share, for orders of the task queue of the settings."""
    temporal = OperatorClient(client, settings.task_queue)
    async with (
        open_gate(settings, database) as gate,
        OrderAcceptance(database, temporal.orders) as acceptance,
        OrderWatch(database, temporal.orders) as watch,
    ):
        readiness = Readiness(asyncio.get_running_loop(), {})
        yield ApiContext(settings, database, temporal, readiness, gate, acceptance, watch)


@asynccontextmanager
async def serving(context: ApiContext, port: int = 0) -> AsyncIterator[str]:
    """Serve the API, at a free port by default, and yield its URL. At the end, open streams break off."""
    with listen(Settings(api_host=HOST, api_port=port)) as listener:
        config = uvicorn.Config(create_app(context), log_config=None, lifespan="off", timeout_graceful_shutdown=0)
        server = _Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}"  # the socket accepts connections already
        finally:
            server.should_exit = True
            await running


class _Server(uvicorn.Server):
    """A server that leaves the signals of the test's process alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
