"""The REST API in this process, on a socket, as programs outside reach it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from temporalio.client import Client

from lastmile.api.auth.gate import open_gate
from lastmile.api.context import ApiContext
from lastmile.api.serve import http_server
from lastmile.client.accepted_order_sweeper import AcceptedOrderSweeper
from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.order_watch import OrderWatch
from lastmile.db import Database
from lastmile.devstack.ports import HOST
from lastmile.settings import Settings
from lastmile.telemetry.readiness import Readiness
from tests.support import http_requests

__all__ = ["api_context", "serving"]


@asynccontextmanager
async def api_context(settings: Settings, database: Database, client: Client) -> AsyncIterator[ApiContext]:
    """Open what the routers share, for orders of the task queue of the settings.

    A sweeper starts the orders that Temporal was too slow for, as every worker has one.
    """
    temporal = OperatorClient(client, settings.task_queue)
    async with (
        open_gate(settings, database) as gate,
        OrderAcceptance(database, temporal.orders) as acceptance,
        OrderWatch(database, temporal.orders) as watch,
        AcceptedOrderSweeper(database, temporal.orders, settings.key_ring),
    ):
        readiness = Readiness(asyncio.get_running_loop(), {})
        yield ApiContext(settings, database, temporal, readiness, gate, acceptance, watch)


@asynccontextmanager
async def serving(context: ApiContext, port: int = 0) -> AsyncIterator[str]:
    """Serve the API, at a free port by default, and yield its URL. At the end, open streams break off."""
    settings = context.settings.model_copy(update={"shutdown_grace_seconds": 0})
    async with http_requests.serving(http_server(replace(context, settings=settings)), port) as bound:
        yield f"http://{HOST}:{bound}"
