"""Statements and savepoints that go to asyncpg without SQLAlchemy, which takes three times the processor time.

For the statements that most orders send. Parameters, rows, errors and events are those of SQLAlchemy.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Executable, Row, text
from sqlalchemy.engine import result_tuple
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from lastmile.db.dialect import DRIVER_ERRORS, Dialect, translated

__all__ = ["DirectStatement", "savepoint"]

_SAVEPOINT = "lastmile"
_DIALECT = Dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has none for it

Processor = Callable[[Any], Any]


class DirectStatement:
    """A statement that is compiled once, and that asyncpg prepares once for each connection.

    Either SQL with `:name` parameters, or an expression of SQLAlchemy. The parameters of an expression are its
    `bindparam`s; other values are those of the expression.
    """

    def __init__(self, statement: str | Executable) -> None:
        self._statement: Any = text(statement) if isinstance(statement, str) else statement

    async def all(self, connection: AsyncConnection, parameters: Mapping[str, Any]) -> list[Row[Any]]:
        """Execute the statement, and return its rows."""
        records = await self._send(connection, "fetch", parameters)
        if not records:
            return []
        row, processors = self._row
        if row is None:  # only PostgreSQL knows the columns of a text
            row, _ = self._row = result_tuple(list(records[0].keys())), ()
        if processors:
            records = [_processed(processors, record) for record in records]
        return [row(record) for record in records]

    async def one_or_none(self, connection: AsyncConnection, parameters: Mapping[str, Any]) -> Row[Any] | None:
        """Execute the statement, which gives at most one row, and return that row."""
        rows = await self.all(connection, parameters)
        return rows[0] if rows else None

    async def scalar(self, connection: AsyncConnection, parameters: Mapping[str, Any]) -> Any:
        """Execute the statement, and return the first column of its first row; None without a row."""
        rows = await self.all(connection, parameters)
        return rows[0][0] if rows else None

    async def count(self, connection: AsyncConnection, parameters: Mapping[str, Any]) -> int:
        """Execute the statement, which returns no rows, and return the number of rows that it has changed."""
        status: str = await self._send(connection, "execute", parameters)
        return int(status.rpartition(" ")[2])

    async def _send(self, connection: AsyncConnection, method: str, parameters: Mapping[str, Any]) -> Any:
        sync = connection.sync_connection
        assert sync is not None
        sql, fixed, places = self._compiled
        values = {**fixed, **parameters}
        arguments = [values[name] if process is None else process(values[name]) for name, process in places]
        sync.dispatch.before_cursor_execute(sync, None, sql, arguments, None, False)
        answer = await _ask(sync, method, sql, *arguments)
        sync.dispatch.after_cursor_execute(sync, None, sql, arguments, None, False)
        return answer

    @cached_property
    def _compiled(self) -> tuple[str, dict[str, Any], list[tuple[str, Processor | None]]]:
        """The statement as asyncpg takes it, the values of the expression, and the parameters in their order.

        Each parameter with what makes a value of asyncpg's of it, such as the text of a JSON value.
        """
        compiled = self._statement.compile(dialect=_DIALECT)
        required = {name for name, bind in compiled.binds.items() if bind.required}
        fixed = {name: value for name, value in compiled.params.items() if name not in required}
        types = {name: bind.type for name, bind in compiled.binds.items()}
        places = []
        for name in compiled.positiontup or ():
            implementation = types[name].dialect_impl(_DIALECT) if name in types else None
            places.append((name, implementation and implementation.bind_processor(_DIALECT)))
        return str(compiled), fixed, places

    @cached_property
    def _row(self) -> tuple[Callable[[Iterable[Any]], Row[Any]] | None, Sequence[Processor | None]]:
        """What makes a row of the columns' values, and what makes each value of asyncpg's, where there is such.

        The first is None where the statement does not say its columns.
        """
        columns = getattr(self._statement, "exported_columns", None)
        if not columns:
            return None, ()
        processors = [column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) for column in columns]
        return result_tuple([column.key for column in columns]), processors if any(processors) else ()


@asynccontextmanager
async def savepoint(connection: AsyncConnection) -> AsyncIterator[None]:
    """Undo what the block did if it fails. The transaction can go on. Blocks must not be nested.

    One round trip: the end of the transaction ends the savepoint. The event `release_savepoint` comes at the end of the
    block.
    """
    sync = connection.sync_connection
    assert sync is not None
    await _ask(sync, "execute", f"SAVEPOINT {_SAVEPOINT}")
    try:
        yield
        if sync.dispatch.release_savepoint:
            await connection.run_sync(lambda sync: sync.dispatch.release_savepoint(sync, _SAVEPOINT, None))
    except BaseException:
        driver: Any = sync.connection.driver_connection
        if not driver.is_closed():
            await _ask(sync, "execute", f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")  # the newest one of this name
        raise


async def _ask(sync: Connection, method: str, sql: str, *arguments: Any) -> Any:
    """Call a method of the asyncpg connection. Raise its errors as SQLAlchemy raises them."""
    driver: Any = sync.connection.driver_connection
    try:
        return await getattr(driver, method)(sql, *arguments)
    except DRIVER_ERRORS as failure:
        error: Any = translated(sync.dialect, driver, failure)
        raise DBAPIError.instance(
            sql,
            None,
            error,
            sync.dialect.loaded_dbapi.Error,
            hide_parameters=True,
            connection_invalidated=driver.is_closed(),
            dialect=sync.dialect,
        ) from failure


def _processed(processors: Sequence[Processor | None], values: Iterable[Any]) -> list[Any]:
    return [value if process is None else process(value) for process, value in zip(processors, values, strict=True)]
