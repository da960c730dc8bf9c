"""Statements that go to asyncpg without SQLAlchemy, which takes three times the processor time for a statement.

For the few statements that most orders send. Parameters, rows, errors and events are those of SQLAlchemy's `text`.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from lastmile.db.dialect import DRIVER_ERRORS, Dialect, translated

__all__ = ["DirectStatement", "Record"]

_DIALECT = Dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has none for it


class Record(asyncpg.Record):  # type: ignore[misc]  # asyncpg has no types
    """A row, whose columns are also attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class DirectStatement:
    """A statement with `:name` parameters. asyncpg prepares it once for each connection."""

    def __init__(self, sql: str) -> None:
        self._text = text(sql)

    @cached_property
    def _compiled(self) -> tuple[str, tuple[str, ...]]:
        """The statement as asyncpg takes it, and the names of its parameters in order."""
        compiled = self._text.compile(dialect=_DIALECT)
        return str(compiled), tuple(compiled.positiontup or ())

    async def all(self, connection: AsyncConnection, parameters: Mapping[str, Any]) -> list[Record]:
        """Execute the statement, and return its rows."""
        sync = connection.sync_connection
        assert sync is not None
        sql, names = self._compiled
        arguments = [parameters[name] for name in names]
        driver: Any = sync.connection.driver_connection
        sync.dispatch.before_cursor_execute(sync, None, sql, arguments, None, False)
        try:
            rows: list[Record] = await driver.fetch(sql, *arguments, record_class=Record)
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
        sync.dispatch.after_cursor_execute(sync, None, sql, arguments, None, False)
        return rows

    async def one_or_none(self, connection: AsyncConnection, parameters: Mapping[str, Any]) -> Record | None:
        """Execute the statement, which gives at most one row, and return that row."""
        rows = await self.all(connection, parameters)
        return rows[0] if rows else None
