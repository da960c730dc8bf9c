"""SQLAlchemy's asyncpg dialect, with transactions that take no round trip more than they need.

A transaction begins with one message, which also brings the settings that row-level security goes by, and the fence of
an order. PostgreSQL carries out one statement of the message after the other: the fence already sees the settings.
BEGIN, COMMIT and savepoints are sent as they are. SQLAlchemy would prepare each of them first, like any statement.

Only a connection that was prepared by `begin_with` begins a transaction. Any other one commits each statement by
itself, as the holder of an advisory lock and a ping want it.
"""

from typing import Any

import asyncpg
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.util import await_only

__all__ = ["DRIVER", "DRIVER_ERRORS", "begin_with", "first_answer", "quoted", "translated"]

DRIVER = "postgresql+lastmile"
"""The driver in the URL of an engine with this dialect, whose isolation level is AUTOCOMMIT."""

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The errors of asyncpg. They have no common base."""

_STATEMENTS = "lastmile_begin_with"
_ANSWER = "lastmile_first_answer"
_BEGUN = "lastmile_begun"


def begin_with(connection: AsyncConnection, statements: str) -> None:
    """Have the next transaction of the connection begin with these statements, in the same round trip."""
    _info(connection)[_STATEMENTS] = statements


def first_answer(connection: AsyncConnection) -> str:
    """Return PostgreSQL's answer to the last statement that the transaction began with, such as `SELECT 1`."""
    return str(_info(connection)[_ANSWER])


def quoted(value: str) -> str:
    """Return the value as a string literal of SQL, whatever `standard_conforming_strings` is.

    Raises:
        ValueError: the value contains a NUL character, which ends a message to PostgreSQL.
    """
    if "\0" in value:
        raise ValueError(f"A text for PostgreSQL must not contain a NUL character: {value!r}")
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _info(connection: AsyncConnection) -> dict[Any, Any]:
    assert connection.sync_connection is not None
    return connection.sync_connection.info


class Dialect(PGDialect_asyncpg):
    """The dialect. See the module."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        statements = dbapi_connection.info.pop(_STATEMENTS, None)
        dbapi_connection.info[_BEGUN] = statements is not None
        if statements is not None:
            dbapi_connection.info[_ANSWER] = self._send(dbapi_connection, f"BEGIN; {statements}")

    def do_commit(self, dbapi_connection: Any) -> None:
        if not dbapi_connection.info[_BEGUN]:
            return
        # Fails on a lost connection. PostgreSQL answers ROLLBACK where a statement has failed before.
        if (answer := self._send(dbapi_connection, "COMMIT")) != "COMMIT":
            raise self.loaded_dbapi.OperationalError(f"PostgreSQL did not commit the transaction, but: {answer}")

    def do_rollback(self, dbapi_connection: Any) -> None:
        driver = dbapi_connection.driver_connection
        if not driver.is_closed() and driver.is_in_transaction():
            self._send(dbapi_connection, "ROLLBACK")

    def do_savepoint(self, connection: Any, name: str) -> None:
        self._send(connection.connection, f"SAVEPOINT {name}")

    def do_rollback_to_savepoint(self, connection: Any, name: str) -> None:
        self._send(connection.connection, f"ROLLBACK TO SAVEPOINT {name}")

    def do_release_savepoint(self, connection: Any, name: str) -> None:
        self._send(connection.connection, f"RELEASE SAVEPOINT {name}")

    def _send(self, dbapi_connection: Any, message: str) -> str:
        driver = dbapi_connection.driver_connection
        try:
            return str(await_only(driver.execute(message)))
        except DRIVER_ERRORS as failure:
            raise translated(self, driver, failure) from failure


def translated(dialect: Any, driver: Any, failure: Exception) -> Exception:
    """Return the error of SQLAlchemy's driver interface for an error of the asyncpg connection `driver`."""
    if isinstance(failure, asyncpg.InternalClientError):
        driver.terminate()  # PostgreSQL has ended the session, and asyncpg has not closed the connection yet
    interface = dialect.loaded_dbapi
    kinds = {
        asyncpg.IntegrityConstraintViolationError: interface.IntegrityError,
        asyncpg.SyntaxOrAccessError: interface.ProgrammingError,
        asyncpg.InvalidCachedStatementError: interface.NotSupportedError,
        asyncpg.InternalServerError: interface.InternalError,
        asyncpg.InterfaceError: interface.InterfaceError,
        asyncpg.InternalClientError: interface.InterfaceError,
    }
    kind = next((kind for raised, kind in kinds.items() if isinstance(failure, raised)), interface.Error)
    error: Exception = kind(str(failure), failure)
    return error


registry.register("postgresql.lastmile", __name__, Dialect.__name__)
