"""Transactions that see one tenant, or, for the platform's own work, all of them.

Row-level security decides what a connection sees, by the role it acts as and the tenant it names. A
connection that names no tenant sees nothing. The login is never the owner of a table: both roles are
groups that the initial schema makes, and every connection acts as one of them.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NewType

from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from lastmile.db.dialect import DRIVER, begin_with, first_answer, quoted
from lastmile.errors import NonRetryableError

__all__ = ["TENANT_ROLE", "Database", "Fence", "PlatformConnection", "TenantConnection", "UnsafeRoleError", "async_url"]

TenantConnection = NewType("TenantConnection", AsyncConnection)
PlatformConnection = NewType("PlatformConnection", AsyncConnection)
PlatformTransaction = AbstractAsyncContextManager[PlatformConnection]

TENANT_ROLE = "lastmile_app"
PLATFORM_ROLE = "lastmile_platform"

# Shorter than any activity's start-to-close timeout: what the server has given up on must not go on in the
# database and commit behind the undo's back.
STATEMENT_TIMEOUT_MS = 5_000
LOCK_TIMEOUT_MS = 4_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 8_000
# Ten million rows take longer than a step of a workflow may. Who does nothing meanwhile has no longer than others: a
# terminal that stands still, or is cut off, would keep what it has locked from everybody.
LONG_TRANSACTION_MS = 86_400_000

# More than a worker has.
STATEMENTS_KEPT = 500

_AS_PLATFORM = f"SET LOCAL ROLE {PLATFORM_ROLE};"
_ROLE_CHECK = text(
    """
    SELECT r.rolname, r.rolsuper, r.rolbypassrls,
           EXISTS (SELECT 1 FROM pg_class c WHERE c.relowner = r.oid) AS owner
    FROM pg_roles r WHERE r.rolname = current_user
    """
)


_SUPERUSER_LOGIN = text("SELECT rolname FROM pg_roles WHERE rolname = session_user AND (rolsuper OR rolbypassrls)")


class UnsafeRoleError(NonRetryableError):
    """The database role could read past row-level security."""


def async_url(url: str) -> str:
    """The same database for SQLAlchemy's asyncpg dialect, whatever driver the URL names."""
    return make_url(url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


@dataclass(frozen=True, slots=True)
class Fence:
    """A statement that must find a row, as the transaction of an order begins. It locks what it finds.

    The statement takes the order from the setting `lastmile.order`, and sees the tenant's rows alone.
    """

    statement: str
    refusal: Callable[[str], Exception]
    """Makes the error that is raised if there is no row; the argument is the order id."""


class Database:
    """A pool of connections. Use `tenant` for a subscriber's business, `platform` for what spans tenants."""

    def __init__(self, url: str, *, pool_size: int = 16) -> None:
        pool = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": STATEMENT_TIMEOUT_MS / 1000}
        self.engine = _engine(url, STATEMENT_TIMEOUT_MS, **pool, pool_use_lifo=True)
        self._long_engine = _engine(url, LONG_TRANSACTION_MS, poolclass=NullPool)

    @asynccontextmanager
    async def tenant(
        self,
        tenant: str,
        *,
        actor: str = "",
        order_id: str = "",
        subscriber_ref: str = "",
        fence: Fence | None = None,
    ) -> AsyncIterator[TenantConnection]:
        """One transaction that sees and writes `tenant`'s rows alone; committed where no error is raised.

        The audit log records its changes as `actor`'s doing (default: the database login's), for that order. Raises the
        refusal of the `fence` if the order may not act. Settings and fence begin the transaction in one round trip.
        """
        statements = _set(tenant=tenant, actor=actor, order=order_id, subscriber=subscriber_ref)
        if fence:
            statements += fence.statement
        async with self._begin(self.engine, statements) as connection:
            if fence and first_answer(connection).endswith(" 0"):
                raise fence.refusal(order_id)
            yield TenantConnection(connection)

    @asynccontextmanager
    async def platform(self, *, actor: str = "") -> AsyncIterator[PlatformConnection]:
        """One transaction over all tenants: set-up, maintenance, audit."""
        async with self._begin(self.engine, _AS_PLATFORM + _set(actor=actor)) as connection:
            yield PlatformConnection(connection)

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """A connection that sees no tenant's rows, and commits each statement by itself: one round trip for each."""
        async with self._connect(self.engine) as connection:
            yield connection

    @asynccontextmanager
    async def long_transaction(self, *, actor: str = "") -> AsyncIterator[PlatformConnection]:
        """As `platform`, on a connection of its own, for what takes as long as it takes: no step of a workflow."""
        async with self._begin(self._long_engine, _AS_PLATFORM + _set(actor=actor)) as connection:
            yield PlatformConnection(connection)

    @asynccontextmanager
    async def long_transactions(self, *, actor: str = "") -> AsyncIterator[Callable[[], PlatformTransaction]]:
        """As `long_transaction`, one transaction after the other on one connection: each call begins one."""
        async with self._long_engine.connect() as connection:

            @asynccontextmanager
            async def transaction() -> AsyncIterator[PlatformConnection]:
                begin_with(connection, _AS_PLATFORM + _set(actor=actor))
                async with connection.begin():
                    yield PlatformConnection(connection)

            yield transaction

    @asynccontextmanager
    async def _begin(self, engine: AsyncEngine, statements: str = "") -> AsyncIterator[AsyncConnection]:
        async with self._connect(engine) as connection:
            begin_with(connection, statements)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def _connect(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            async with engine.connect() as connection:
                yield connection
        except DBAPIError as failure:
            # After a restart of PostgreSQL every idle connection is dead: drop them all at the first sign,
            # instead of letting each of the next callers find one.
            if failure.connection_invalidated:
                await engine.dispose()
            raise

    async def verify_role(self) -> None:
        """Raise `UnsafeRoleError` unless row-level security binds this login."""
        async with self._begin(self.engine) as connection:
            role = (await connection.execute(_ROLE_CHECK)).one()
        if role.rolsuper or role.rolbypassrls or role.owner:
            raise UnsafeRoleError(
                f"the database role {role.rolname} is a superuser, has BYPASSRLS or owns tables, so row-level "
                f"security would not bind it: connect as a member of {TENANT_ROLE} instead"
            )

    async def superuser_login(self) -> str | None:
        """The login, where it is a superuser or has BYPASSRLS: only the role that it acts as holds it back."""
        async with self._begin(self.engine) as connection:
            return (await connection.execute(_SUPERUSER_LOGIN)).scalar_one_or_none()

    async def ping(self) -> None:
        """Have PostgreSQL answer on a connection of its own, since a burst of work may use every other one."""
        async with self._long_engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()


def _engine(url: str, statement_ms: int, **pool: Any) -> AsyncEngine:
    return create_async_engine(
        make_url(url).set(drivername=DRIVER),
        **pool,
        isolation_level="AUTOCOMMIT",  # the dialect begins and ends the transactions
        hide_parameters=True,  # in errors: they hold names and addresses
        connect_args={
            "timeout": STATEMENT_TIMEOUT_MS / 1000,
            "command_timeout": statement_ms / 1000 + 1,
            # Each statement is prepared once for each connection: by SQLAlchemy, or by asyncpg (`lastmile.db.direct`),
            # which would do so again after five minutes.
            "prepared_statement_cache_size": STATEMENTS_KEPT,
            "statement_cache_size": STATEMENTS_KEPT,
            "max_cached_statement_lifetime": 0,
            "server_settings": {
                "role": TENANT_ROLE,
                "application_name": "lastmile",
                "statement_timeout": str(statement_ms),
                "lock_timeout": str(LOCK_TIMEOUT_MS),
                "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
            },
        },
    )


def _set(**settings: str) -> str:
    """Return the statement of the settings: row-level security goes by the tenant, the audit log by the others."""
    calls = [f"set_config('lastmile.{name}', {quoted(value)}, true)" for name, value in settings.items()]
    return f"SELECT {', '.join(calls)};"
