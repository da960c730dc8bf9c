"""Statements that go to asyncpg directly: parameters, rows, events and errors are those of SQLAlchemy."""

from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from lastmile.db import Database
from lastmile.db.direct import DirectStatement
from lastmile.db.failures import describe_failure

NAMES = DirectStatement("SELECT name, ref FROM customers WHERE ref = :ref OR ref = :ref || :more ORDER BY ref")
COPY = DirectStatement("INSERT INTO customers SELECT * FROM customers WHERE name = :name")

FATAL = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
END_OF_SESSION = b"E" + (len(FATAL) + 4).to_bytes(4) + FATAL
"""The ErrorResponse of a session that an administrator ends."""


async def test_direct_statement_sees_the_rows_of_its_tenant_alone(
    populated: asyncpg.Connection, application: Database
) -> None:
    async with application.tenant("acme") as connection:
        await connection.execute(text("UPDATE customers SET name = 'Grace'"))
        assert [tuple(row) for row in await NAMES.all(connection, {"ref": "C-1", "more": ""})] == [("Grace", "C-1")]
        row = await NAMES.one_or_none(connection, {"ref": "C-1", "more": "0"})
        assert row is not None
        assert (row.name, row["ref"]) == ("Grace", "C-1")
        assert await NAMES.one_or_none(connection, {"ref": "C-2", "more": ""}) is None
    async with application.tenant("other") as connection:
        assert (await NAMES.all(connection, {"ref": "C-1", "more": ""}))[0].name == "Ada"


async def test_direct_statement_fails_as_sqlalchemy_does(populated: asyncpg.Connection, application: Database) -> None:
    async def copy() -> None:
        async with application.tenant("acme") as connection:
            await COPY.all(connection, {"name": "Ada"})

    with pytest.raises(IntegrityError) as failure:
        await copy()
    assert not failure.value.connection_invalidated
    assert getattr(failure.value.orig, "sqlstate", None) == "23505"


async def test_direct_statement_on_a_lost_connection_invalidates_it(
    populated: asyncpg.Connection, application: Database
) -> None:
    async def ask() -> None:
        async with application.tenant("acme") as connection:
            backend = await connection.scalar(text("SELECT pg_backend_pid()"))
            await populated.execute("SELECT pg_terminate_backend($1, 5000)", backend)
            await NAMES.all(connection, {"ref": "C-1", "more": ""})

    with pytest.raises(DBAPIError) as failure:
        await ask()
    assert failure.value.connection_invalidated
    async with application.tenant("acme") as connection:
        assert len(await NAMES.all(connection, {"ref": "C-1", "more": ""})) == 1


@pytest.mark.parametrize("direct", [True, False], ids=["statement", "commit"])
async def test_statement_in_a_session_that_is_ending_fails_as_on_a_lost_connection(
    populated: asyncpg.Connection, application: Database, direct: bool
) -> None:
    """PostgreSQL has announced the end, and has not closed the connection yet."""

    async def ask() -> None:
        async with application.tenant("acme") as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            driver._protocol.data_received(END_OF_SESSION)
            if direct:
                await NAMES.all(connection, {"ref": "C-1", "more": ""})
            # Otherwise the COMMIT is the next message.

    with pytest.raises(DBAPIError) as failure:
        await ask()
    assert failure.value.connection_invalidated
    assert (
        describe_failure(failure.value) == "The database failed: the connection to PostgreSQL was lost: is it running?"
    )
    async with application.tenant("acme") as connection:
        assert len(await NAMES.all(connection, {"ref": "C-1", "more": ""})) == 1


async def test_direct_statement_is_reported_to_listeners(populated: asyncpg.Connection, application: Database) -> None:
    heard: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        heard.append(statement)

    for name in ("before_cursor_execute", "after_cursor_execute"):
        event.listen(application.engine.sync_engine, name, hear)
    async with application.tenant("acme") as connection:
        await NAMES.all(connection, {"ref": "C-1", "more": ""})
    assert len(heard) == 2
    assert all("FROM customers" in statement for statement in heard)
