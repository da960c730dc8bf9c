"""The settings, the database and Temporal, as every command opens them."""

from contextlib import AbstractAsyncContextManager

from pydantic import ValidationError

from lastmile.client.credentials import CredentialStore
from lastmile.client.operator_client import OperatorClient
from lastmile.client.temporal.connection import connect
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
    "open_database",
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
    return OperatorClient(await connect(settings.environment, keys), settings.task_queue, credentials)


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
    """Return the tenant as `choose_tenant`, for a command that needs the database for nothing else."""
    async with open_database(settings) as database:
        return await choose_tenant(database, tenant)
