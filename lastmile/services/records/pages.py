"""Pages of records. A page ends with a sort key, and the next page begins after it: every page costs the same."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from lastmile.db import Database

__all__ = ["Page", "PageRequest", "SortKey", "beyond", "page_of", "reading"]

T = TypeVar("T")

SortKey = tuple[str | int, ...]
"""The values that the records of a list are sorted by. No two records have the same."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The page to read: at most `limit` records, after the record with this sort key."""

    limit: int
    after: SortKey | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """The records of a page."""

    results: list[T]
    after: SortKey | None = None
    """The sort key of the last record; None: no record comes after it."""


def page_of(
    rows: Sequence[Any],
    request: PageRequest,
    record: Callable[[Any], T],
    key: Callable[[Any], SortKey],
) -> Page[T]:
    """Return the page of the rows. There is one row more than the limit where a record comes after the page."""
    shown = rows[: request.limit]
    return Page([record(row) for row in shown], key(shown[-1]) if len(rows) > len(shown) else None)


def beyond(key: Sequence[Column[Any]], after: SortKey, tenant: str | None) -> ColumnElement[bool]:
    """Return the condition on the records after the sort key `after`. The first of the two columns is the tenant.

    For one tenant, row-level security compares the first column with it. PostgreSQL then starts at the second column
    only where that is compared by itself: otherwise it would read all pages before.
    """
    owner, column = key
    return tuple_(owner, column) > tuple_(*after) if tenant is None else column > after[1]


def reading(database: Database, tenant: str | None) -> AbstractAsyncContextManager[AsyncConnection]:
    """Begin a transaction that sees the rows of the tenant; without a tenant, of all tenants."""
    return database.platform() if tenant is None else database.tenant(tenant)
