"""Tests of the sentences for failures of the database: no words of PostgreSQL, SQLAlchemy or asyncpg in them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from sqlalchemy import text

from lastmile.db import Database
from lastmile.db.failures import describe_failure

NOTHING_LISTENS = "postgresql://nobody@127.0.0.1:1/nothing"


async def failure_of(work: Callable[[], Awaitable[object]]) -> str | None:
    """Return what is said about the failure of the work."""
    try:
        await work()
    except Exception as failure:
        return describe_failure(failure)
    raise AssertionError("the work did not fail")


@pytest.fixture
async def away() -> AsyncIterator[Database]:
    """A database at an address where nothing listens."""
    database = Database(NOTHING_LISTENS)
    yield database
    await database.close()


async def run(database: Database, *statements: str) -> None:
    async with database.platform() as connection:
        for statement in statements:
            await connection.execute(text(statement))


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (("SET LOCAL statement_timeout = 1", "SELECT pg_sleep(5)"), "took too long over a query"),
        (("INSERT INTO tenants (id, name) VALUES ('acme', 'x'), ('acme', 'y')",), "UniqueViolationError"),
        (("SELECT 1 FROM no_such_table",), "run `lastmile migrate`"),
    ],
)
async def test_describe_failure_of_a_statement_uses_own_words(
    database: Database, statements: tuple[str, ...], words: str
) -> None:
    said = await failure_of(lambda: run(database, *statements))
    assert said is not None
    assert said.startswith("The database ")
    assert words in said
    assert "canceling" not in said
    assert "duplicate" not in said


async def test_describe_failure_of_a_lock_that_another_holds_names_the_other_transaction(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with owner.transaction():
        await owner.execute("LOCK TABLE tenants")
        said = await failure_of(lambda: run(database, "SET LOCAL lock_timeout = 1", "SELECT FROM tenants"))
    assert said is not None
    assert said.startswith("The database failed: another transaction holds what this one waits for")


async def test_describe_failure_without_a_server_says_that_none_answers(away: Database) -> None:
    said = await failure_of(lambda: run(away))
    assert said == "The database failed: no PostgreSQL answers: is it running, and are host and port right?"


async def test_describe_failure_of_another_connection_says_nothing() -> None:
    """A controller's connection fails with the same type of error as the database's."""
    assert await failure_of(lambda: asyncio.open_connection("127.0.0.1", 1)) is None
    assert describe_failure(ConnectionAbortedError("the RADIUS client was closed")) is None
