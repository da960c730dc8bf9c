"""The settings, the database and Temporal, as every command opens them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pydantic import ValidationError

from lastmile.client.api.operator import ApiOperator
from lastmile.client.api.orders import LastmileApi
from lastmile.client.credentials import CredentialStore
from lastmile.client.operator import Operator
from lastmile.client.operator_client import OperatorClient
from lastmile.client.temporal.connection import TemporalUnreachableError, connect
from lastmile.db import Database
from lastmile.db.access import open_database as open_database_at
from lastmile.errors import InvalidInputError, UnavailableError
from lastmile.services.tenants import list_tenants
from lastmile.settings import Settings
from lastmile.telemetry.temporal import forward_temporal_logs
from lastmile.validation_messages import setting_mistakes

__all__ = [
    "check_tenant",
    "choose_tenant",
    "connect_temporal",
    "find_tenant",
    "load_settings",
    "open_api",
    "open_database",
    "open_operator",
]


def load_settings(*, with_stack: bool = True) -> Settings:
    """Load the settings, `with_stack` also those of a running embedded stack. Raises `InvalidInputError`."""
    try:
        return Settings.load() if with_stack else Settings()
    except ValidationError as failure:
        problems = setting_mistakes(failure, Settings)
        raise InvalidInputError("The environment has settings that cannot be used:", problems) from None


def open_database(settings: Settings) -> AbstractAsyncContextManager[Database]:
    """Open the database. Raises `UnavailableError` without a database, and for each failure to use it."""
    if settings.database_url is None:
        if settings.api_url is not None:
            raise UnavailableError(
                "This command needs the database, and cannot use the REST API (LASTMILE_API_URL). Set DATABASE_URL."
            )
        raise UnavailableError(
            f"No database is configured: DATABASE_URL is not set, and no stack runs in {settings.state_dir}. "
            "Start one with `lastmile up`, or set DATABASE_URL."
        )
    return open_database_at(str(settings.database_url), pool_size=settings.database_pool_size)


async def connect_temporal(settings: Settings) -> OperatorClient:
    """Connect to Temporal. Raises `TemporalUnreachableError`."""
    forward_temporal_logs()  # the command reports in its own words that the server is away
    url, keys = settings.database_url, settings.key_ring
    credentials = None if url is None else CredentialStore(str(url), keys)
    try:
        return OperatorClient(await connect(settings.environment, keys), settings.task_queue, credentials)
    except TemporalUnreachableError as failure:
        if settings.api_url is None:
            raise
        words = f"This command needs Temporal, and cannot use the REST API (LASTMILE_API_URL). {failure}"
        raise UnavailableError(words) from failure


@asynccontextmanager
async def open_operator(settings: Settings) -> AsyncIterator[Operator]:
    """Open the REST API if LASTMILE_API_URL is set, otherwise Temporal.

    Raises `TemporalUnreachableError`, `UnavailableError`, and `InvalidInputError` for a token that is not accepted.
    """
    if settings.api_url is None:
        yield await connect_temporal(settings)
        return
    async with open_api(settings) as operator:
        yield operator


@asynccontextmanager
async def open_api(settings: Settings) -> AsyncIterator[ApiOperator]:
    """Open the REST API. Raises `UnavailableError`, and `InvalidInputError` for a token that is not accepted."""
    async with LastmileApi.of(settings) as api:
        await api.caller()
        yield ApiOperator(api)


async def check_tenant(database: Database, tenant: str | None) -> None:
    """Check an optional `--tenant`. Raises `InvalidInputError` for an unknown tenant."""
    if tenant is not None:
        await choose_tenant(database, tenant)


async def choose_tenant(database: Database, tenant: str | None) -> str:
    """Return the tenant of `--tenant`; without this option the only tenant there is. Raises `InvalidInputError`."""
    known = [known.id for known in await list_tenants(database)]
    if not known:
        raise InvalidInputError("There are no tenants yet: add one with `lastmile tenant add ID --name NAME`.")
    if tenant is None and len(known) > 1:
        raise InvalidInputError(f"There are several tenants: name one with --tenant ({', '.join(known)}).")
    if tenant is not None and tenant not in known:
        raise InvalidInputError(f"There is no tenant {tenant!r}. The tenants are: {', '.join(known)}.")
    return tenant or known[0]


async def find_tenant(settings: Settings, tenant: str | None) -> str:
    """Return the tenant as `choose_tenant`, for a command that needs the database for nothing else.

    With LASTMILE_API_URL, the tenant is that of the token, or the one that `--tenant` names.
    """
    if settings.api_url is not None:
        async with LastmileApi.of(settings) as api:
            bound = (await api.caller()).tenant
        if tenant is None and bound is None:
            raise InvalidInputError("LASTMILE_API_TOKEN is for all tenants: name one with --tenant.")
        if None not in (tenant, bound) and tenant != bound:
            raise InvalidInputError(f"LASTMILE_API_TOKEN is for tenant {bound}, and --tenant names {tenant!r}.")
        return str(tenant or bound)
    async with open_database(settings) as database:
        return await choose_tenant(database, tenant)
