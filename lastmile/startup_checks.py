"""Checks before a worker takes work. All problems are reported at once."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog
from temporalio.client import Client, Plugin

from ipam.netbox import NetBox
from ipam.netbox.errors import NetBoxError, NetBoxNotReadyError, NotNetBoxError
from lastmile.client.temporal.connection import TemporalUnreachableError, connect
from lastmile.client.temporal.search_attributes import add_search_attributes
from lastmile.client.temporal.settings import InvalidTemporalSettingsError
from lastmile.db import Database
from lastmile.db.failures import DATABASE_FAILURES, explain, without_password
from lastmile.db.migrate import pending
from lastmile.errors import LastmileError, NonRetryableError
from lastmile.settings import Settings

__all__ = ["ConfigurationError", "check_database", "clients"]

log = structlog.get_logger("lastmile.worker")


class ConfigurationError(LastmileError):
    """Everything that keeps the worker from starting, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


async def clients(settings: Settings, netbox: NetBox | None, stack: AsyncExitStack) -> tuple[Client, Database]:
    """Connect to Temporal and the database, check both and NetBox, and close the clients with the stack.

    The client of Temporal sends traces where a collector is configured. Raises `ConfigurationError` with every problem.
    """
    plugins, problems = await _tracing(settings, stack)
    database, found = await check_database(settings)
    if database is not None:
        stack.push_async_callback(database.close)
    problems += found + await _check_netbox(netbox)
    client = None
    try:
        client = await connect(settings.environment, settings.key_ring, plugins)
        problems += await add_search_attributes(client)
    except InvalidTemporalSettingsError as failure:
        problems += failure.problems
    except TemporalUnreachableError as failure:
        problems.append(f"Temporal: {failure}")
    if problems or client is None or database is None:
        raise ConfigurationError(problems)
    return client, database


async def _tracing(settings: Settings, stack: AsyncExitStack) -> tuple[list[Plugin], list[str]]:
    """Return the plugin that sends traces until the stack is closed, and the problems."""
    if settings.otel_exporter_otlp_endpoint is None:
        return [], []
    try:
        from lastmile.telemetry.tracing import tracing
    except ImportError as failure:
        problem = f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed ({failure})"
        return [], [f"{problem}: pip install 'lastmile[tracing]'"]
    return [await stack.enter_async_context(tracing(str(settings.otel_exporter_otlp_endpoint)))], []


async def check_database(settings: Settings) -> tuple[Database | None, list[str]]:
    """Open the database; return it with its problems. It is None where none is configured."""
    if settings.database_url is None:
        return None, ["DATABASE_URL is not set: postgresql://user:password@host:port/name"]
    url = str(settings.database_url)
    database = Database(url, pool_size=settings.database_pool_size)
    try:
        await database.verify_role()
        if login := await database.superuser_login():
            log.warning(
                "worker.superuser_login",
                problem=f"DATABASE_URL: the login {login} is a superuser or has BYPASSRLS, which no worker needs",
                remedy="connect as a login that owns nothing and is a member of lastmile_app and lastmile_platform",
            )
        if missing := await pending(url):
            return database, [f"the database lacks migrations {', '.join(missing)}: run `lastmile migrate`"]
    except NonRetryableError as failure:
        return database, [str(failure)]
    except DATABASE_FAILURES as failure:
        if (words := explain(failure, url)) is None:
            raise
        return database, [f"DATABASE_URL: the database {without_password(url)} cannot be used: {words}"]
    return database, []


async def _check_netbox(netbox: NetBox | None) -> list[str]:
    """Return what NetBox lacks.

    A worker starts also while NetBox is away or refuses the token: orders that need NetBox wait.
    """
    try:
        if netbox is not None:
            await netbox.require()
    except (NetBoxNotReadyError, NotNetBoxError) as failure:
        return [str(failure)]
    except NetBoxError as failure:
        log.warning("worker.netbox_away", reason=str(failure))
    return []
