"""A process of the REST API: settings, clients, the HTTP server, `/metrics`.

The environment alone configures it. SIGTERM and SIGINT let it finish the requests that it has taken.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial

import structlog
import uvicorn
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from lastmile.api.app import create_app
from lastmile.api.auth.gate import check_key_file, open_gate
from lastmile.api.context import ApiContext
from lastmile.api.http_protocol import KEEP_ALIVE_SECONDS, HttpProtocol
from lastmile.client.credentials import CredentialStore
from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.order_watch import OrderWatch
from lastmile.client.temporal.connection import connect
from lastmile.client.temporal.settings import InvalidTemporalSettingsError
from lastmile.db import Database
from lastmile.errors import UnavailableError
from lastmile.processes import run_together
from lastmile.settings import Settings
from lastmile.startup_checks import ConfigurationError, check_database
from lastmile.telemetry.http import serve as serve_pages
from lastmile.telemetry.http import worker_pages
from lastmile.telemetry.logs import set_up_logging
from lastmile.telemetry.metrics import start_api_at_zero
from lastmile.telemetry.readiness import Readiness

__all__ = ["http_server", "listen", "run_many", "serve"]

log = structlog.get_logger("lastmile.api")


def listen(settings: Settings) -> socket.socket:
    """Open the port of the API. Raises `UnavailableError`."""
    try:
        listener = socket.create_server(
            (settings.api_host, settings.api_port),
            family=socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET,
            backlog=1024,
        )
    except OSError as failure:
        where = f"{settings.api_host}:{settings.api_port}"
        raise UnavailableError(f"LASTMILE_API_PORT: {where} cannot be used: {failure.strerror}") from None
    # Connections inherit it. The event loop sets it only on sockets that name their protocol: otherwise the second
    # packet of each answer waits 40 ms for the caller's acknowledgement of the first one.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def serve(settings: Settings, listener: socket.socket, metrics_port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises `ConfigurationError` before any request is taken."""
    async with AsyncExitStack() as stack:
        context = await _context(settings, stack)
        pages = worker_pages(lambda: True, context.readiness.report)
        try:
            metrics = serve_pages(settings.api_host, metrics_port, pages)
        except OSError as failure:
            where = f"{settings.api_host}:{metrics_port}"
            raise ConfigurationError(
                [f"LASTMILE_API_METRICS_PORT: {where} cannot be used: {failure.strerror}"]
            ) from None
        stack.callback(metrics.shutdown)
        server = http_server(context)
        # What exists now stays. A full garbage collection would visit it all, and answer no request for 0.1 s.
        gc.collect()
        gc.freeze()
        start_api_at_zero()
        log.info("api.started", port=listener.getsockname()[1], metrics_port=metrics.server_port)
        await server.serve(sockets=[listener])
    log.info("api.stopped")


def http_server(context: ApiContext) -> uvicorn.Server:
    """Return the HTTP server of the application."""
    return _Server(
        uvicorn.Config(
            create_app(context),
            log_config=None,
            access_log=False,
            server_header=False,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(context.settings.shutdown_grace_seconds),
        )
    )


class _Server(uvicorn.Server):
    """The HTTP server. It ends normally after a signal, where uvicorn would raise the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, partial(self.handle_exit, number, None))
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


async def _context(settings: Settings, stack: AsyncExitStack) -> ApiContext:
    """Open the clients until the stack is closed. Temporal may be away. Raises `ConfigurationError`."""
    database, problems = await check_database(settings)
    if database is not None:
        stack.push_async_callback(database.close)
    problems += check_key_file(settings)
    client = None
    try:
        client = await connect(settings.environment, settings.key_ring, lazy=True)
    except InvalidTemporalSettingsError as failure:
        problems += failure.problems
    if problems or client is None or database is None:
        raise ConfigurationError(problems)
    gate = await stack.enter_async_context(open_gate(settings, database))
    credentials = CredentialStore(str(settings.database_url), settings.key_ring)
    temporal = OperatorClient(client, settings.task_queue, credentials)
    checks = {"database": partial(_look_at_database, database), "temporal": partial(_look_at_temporal, temporal)}
    readiness = Readiness(asyncio.get_running_loop(), checks)
    acceptance = await stack.enter_async_context(OrderAcceptance(database, temporal.orders, settings.key_ring))
    watch = await stack.enter_async_context(OrderWatch(database, temporal.orders))
    return ApiContext(settings, database, temporal, readiness, gate, acceptance, watch)


async def _look_at_database(database: Database) -> str:
    await database.ping()
    return ""


async def _look_at_temporal(temporal: OperatorClient) -> str:
    request = DescribeNamespaceRequest(namespace=temporal.client.namespace)
    await temporal.client.workflow_service.describe_namespace(request)
    return ""


def run_many(settings: Settings, listener: socket.socket, processes: int) -> int:
    """Run several processes that accept connections of one socket, and return the exit status."""
    ports = [settings.api_metrics_port + number if settings.api_metrics_port else 0 for number in range(processes)]
    return run_together(
        [sys.executable, "-m", "lastmile.api.serve", "--descriptor", str(listener.fileno())],
        [{"LASTMILE_API_METRICS_PORT": str(port)} for port in ports],
        keep=[listener.fileno()],
    )


def main() -> None:
    """Run one of several processes, on the listening socket that it has inherited."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--descriptor", type=int, required=True)
    listener = socket.socket(fileno=parser.parse_args().descriptor)
    settings = Settings.load()
    set_up_logging(settings.log_format, settings.log_level)
    try:
        asyncio.run(serve(settings, listener, settings.api_metrics_port))
    except ConfigurationError as failure:
        print("The API cannot start:", *(f"  - {problem}" for problem in failure.problems), sep="\n", file=sys.stderr)
        os._exit(2)


if __name__ == "__main__":
    main()
