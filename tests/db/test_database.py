"""Connections: their roles, time-outs and recovery."""

from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from lastmile.db import Database
from lastmile.db.database import UnsafeRoleError


@pytest.fixture
async def as_itself(owner_url: str) -> AsyncIterator[Database]:
    """A superuser behind a pooler that drops the role of the start-up packet, as PgBouncer can."""
    database = Database(owner_url)

    def drop_role(connection: object, _: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]  # a DBAPI connection
        cursor.execute("SET ROLE NONE")
        cursor.close()

    event.listen(database.engine.sync_engine, "connect", drop_role)
    try:
        yield database
    finally:
        await database.close()


async def test_bound_login_is_accepted(application: Database) -> None:
    await application.verify_role()


async def test_superuser_acting_as_the_application_is_accepted(database: Database) -> None:
    await database.verify_role()


async def test_superuser_login_is_named(database: Database, application: Database) -> None:
    assert await database.superuser_login() == "postgres"
    assert await application.superuser_login() is None


async def test_superuser_acting_as_itself_is_refused(as_itself: Database) -> None:
    with pytest.raises(UnsafeRoleError, match=r"the database role postgres .* connect as a member of lastmile_app"):
        await as_itself.verify_role()


async def test_role_that_owns_a_table_is_refused(owner: asyncpg.Connection, application: Database) -> None:
    await owner.execute("CREATE TABLE kept (id bigint); ALTER TABLE kept OWNER TO lastmile_app")
    with pytest.raises(UnsafeRoleError, match="owns tables"):
        await application.verify_role()


async def test_failed_transaction_is_rolled_back(application: Database) -> None:
    with suppress(ZeroDivisionError):
        async with application.platform() as connection:
            await connection.execute(text("INSERT INTO tenants (id, name) VALUES ('acme', 'Acme')"))
            raise ZeroDivisionError
    async with application.platform() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM tenants")) == 0


async def test_errors_do_not_tell_what_was_written(application: Database) -> None:
    with pytest.raises(DBAPIError) as failure:
        async with application.platform() as connection:
            await connection.execute(text("INSERT INTO tenants (id) VALUES (:id)"), {"id": "a-secret-customer"})
    assert "a-secret-customer" not in str(failure.value).replace(str(failure.value.orig), "")


async def test_caller_after_a_lost_connection_gets_a_new_one(owner: asyncpg.Connection, application: Database) -> None:
    """As after a restart of PostgreSQL: every idle connection is dead, and one failure is enough to notice."""
    async with application.tenant("acme") as one, application.tenant("acme") as two:
        for connection in (one, two):
            await connection.execute(text("SELECT 1"))
    await owner.execute(
        """
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'lastmile'
        """
    )
    with pytest.raises(DBAPIError):
        async with application.tenant("acme"):
            pass
    async with application.tenant("acme") as one, application.tenant("acme") as two:
        for connection in (one, two):
            assert await connection.scalar(text("SELECT 1")) == 1


async def test_abandoned_statement_is_cancelled_by_the_server(application: Database) -> None:
    async with application.tenant("acme") as connection:
        for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            setting = text(f"SELECT setting::int FROM pg_settings WHERE name = '{limit}'")
            assert await connection.scalar(setting) > 0, limit
