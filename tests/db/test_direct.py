"""Statements that go to asyncpg directly: parameters, rows, events and errors are those of SQLAlchemy."""

from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from lastmile.db import Database
from lastmile.db.direct import DirectStatement

NAMES = DirectStatement("SELECT name, ref FROM customers WHERE ref = :ref OR ref = :ref || :more ORDER BY ref")
COPY = DirectStatement("INSERT INTO customers SELECT * FROM customers WHERE name = :name")


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
