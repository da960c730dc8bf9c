"""Statements that go to asyncpg directly: parameters, rows, events and errors are those of SQLAlchemy."""

from typing import Any

import asyncpg
import pytest
from sqlalchemy import bindparam, event, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from lastmile.db import Database
from lastmile.db.direct import DirectStatement, savepoint
from lastmile.db.failures import describe_failure
from lastmile.subscribers.tables import customers, network_profiles, orders, previous_values, subscribers

NAMES = DirectStatement("SELECT name, ref FROM customers WHERE ref = :ref OR ref = :ref || :more ORDER BY ref")
COPY = DirectStatement("INSERT INTO customers SELECT * FROM customers WHERE name = :name")
KEEP = insert(previous_values).values(
    tenant_id="acme",
    created_by_order=bindparam("order_id"),
    step=bindparam("step"),
    subscriber_ref="S-1",
    value=bindparam("value"),
)
LINE = (
    select(network_profiles, orders.c.result, customers.c.name.label("owner"))
    .join(subscribers, subscribers.c.id == network_profiles.c.subscriber_id)
    .join(customers, customers.c.id == subscribers.c.customer_id)
    .join(orders, orders.c.order_id == network_profiles.c.created_by_order)
    .where(subscribers.c.ref == bindparam("ref"), network_profiles.c.option82_policy == "log")
    .limit(1)
)

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
        assert (row.name, row.ref) == ("Grace", "C-1")
        assert await NAMES.one_or_none(connection, {"ref": "C-2", "more": ""}) is None
    async with application.tenant("other") as connection:
        assert (await NAMES.all(connection, {"ref": "C-1", "more": ""}))[0].name == "Ada"


async def test_direct_expression_gives_the_rows_of_sqlalchemy(
    populated: asyncpg.Connection, application: Database
) -> None:
    result = {"steps": ["ärlig", None], "seconds": 1.5}
    record = update(orders).where(orders.c.order_id == bindparam("of")).values(result=bindparam("new"))
    async with application.tenant("acme") as connection:
        assert await DirectStatement(record).count(connection, {"of": "o1", "new": result}) == 1
        assert await DirectStatement(record).count(connection, {"of": "o2", "new": result}) == 0
        await connection.execute(update(network_profiles).values(cpe_mac="00:1a:2b:3c:4d:5e", s_vlan=100))
        row = await DirectStatement(LINE).one_or_none(connection, {"ref": "S-1"})
        expected = (await connection.execute(LINE, {"ref": "S-1"})).one()
    assert row is not None
    assert tuple(row) == tuple(expected)
    assert row._asdict() == expected._asdict()
    assert [type(value) for value in row] == [type(value) for value in expected]
    assert (row.result, row.owner, row.cpe_mac) == (result, "Ada", "00:1a:2b:3c:4d:5e")


async def test_direct_expression_takes_its_own_values_and_the_parameters(
    populated: asyncpg.Connection, application: Database
) -> None:
    keep = DirectStatement(KEEP)
    kept = DirectStatement(select(previous_values).where(previous_values.c.step == bindparam("step")))
    number = DirectStatement(select(func.count()).select_from(previous_values))
    async with application.tenant("acme") as connection:
        for value in ({"price": None}, ["x"], "text"):
            assert await keep.count(connection, {"order_id": "o1", "step": str(value), "value": value}) == 1
            row = await kept.one_or_none(connection, {"step": str(value)})
            assert row is not None
            assert (row.tenant_id, row.subscriber_ref, row.value) == ("acme", "S-1", value)
        assert await number.scalar(connection, {}) == 4
        assert await kept.scalar(connection, {"step": "other"}) is None
        with pytest.raises(KeyError, match="order_id"):
            await keep.count(connection, {"step": "s", "value": {}})


async def test_direct_statement_fails_as_sqlalchemy_does(populated: asyncpg.Connection, application: Database) -> None:
    async def copy() -> None:
        async with application.tenant("acme") as connection:
            await COPY.all(connection, {"name": "Ada"})

    with pytest.raises(IntegrityError) as failure:
        await copy()
    assert not failure.value.connection_invalidated
    assert getattr(failure.value.orig, "sqlstate", None) == "23505"


@pytest.mark.parametrize(
    "sql", ["SELECT 1 FROM gone", "SELECT 1 / 0", "DELETE FROM customers", "SELECT pg_sleep(NULL::text)"]
)
async def test_direct_statement_fails_with_the_type_of_sqlalchemy(
    populated: asyncpg.Connection, application: Database, sql: str
) -> None:
    types = []
    for direct in (True, False):
        with pytest.raises(DBAPIError) as failure:
            async with application.tenant("acme") as connection:
                await (DirectStatement(sql).all(connection, {}) if direct else connection.execute(text(sql)))
        types.append(type(failure.value))
    assert types[0] is types[1]


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


async def test_savepoint_of_a_failing_block_undoes_the_block_alone(
    populated: asyncpg.Connection, application: Database
) -> None:
    rename = DirectStatement("UPDATE customers SET name = :name")

    async def change(name: str, failing: bool = False) -> None:
        async with savepoint(connection):
            await rename.count(connection, {"name": name})
            if failing:
                await COPY.all(connection, {"name": name})

    async with application.tenant("acme") as connection:
        await change("first")
        await change("second")
        for _ in range(2):
            with pytest.raises(IntegrityError):
                await change("third", failing=True)
        assert await populated.fetchval("SELECT name FROM customers WHERE tenant_id = 'acme'") == "Ada"
        assert (await NAMES.all(connection, {"ref": "C-1", "more": ""}))[0].name == "second"
    assert await populated.fetchval("SELECT name FROM customers WHERE tenant_id = 'acme'") == "second"


async def test_savepoint_on_a_lost_connection_invalidates_it(
    populated: asyncpg.Connection, application: Database
) -> None:
    async def ask(*, inside: bool) -> None:
        async with application.tenant("acme") as connection:
            backend = await connection.scalar(text("SELECT pg_backend_pid()"))
            if not inside:
                await populated.execute("SELECT pg_terminate_backend($1, 5000)", backend)
            async with savepoint(connection):
                await populated.execute("SELECT pg_terminate_backend($1, 5000)", backend)
                await NAMES.all(connection, {"ref": "C-1", "more": ""})

    for inside in (True, False):
        with pytest.raises(DBAPIError) as failure:
            await ask(inside=inside)
        assert failure.value.connection_invalidated
