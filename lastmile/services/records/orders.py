"""Orders as the database knows them, accepted and opened ones together: one order, and the list by pages."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from sqlalchemy import TextClause, text

from lastmile.contract import OrderResult
from lastmile.contract.orders import Operation, Urgency
from lastmile.db import Database, TenantConnection
from lastmile.services.records.pages import Page, PageRequest, page_of, reading

__all__ = [
    "OrderFilter",
    "OrderRecord",
    "OrderSort",
    "find_order_record",
    "find_order_records",
    "list_order_records",
    "read_order_record",
]


class OrderRecord(BaseModel):
    """An order: accepted, opened by a workflow, or ended."""

    tenant: str
    order_id: str
    operation: Operation
    subscriber_ref: str
    status: str
    """`waiting`, `scheduled`, `refused` or `cancelled` before a workflow opens the order. Then `running`,
    `rolling_back` or how the order ended."""
    reason: str
    """Why the order was refused, cancelled, rolled back or abandoned; otherwise empty."""
    urgency: Urgency
    requested_by: str | None
    created_at: datetime
    """When the order was accepted; once it is opened, when a workflow opened it."""
    not_before: datetime | None
    """When a scheduled order starts."""
    finished_at: datetime | None
    result: OrderResult | None
    """What the order did; null while it has not ended."""


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """The orders to list. Each condition holds; one of the values of a condition is enough."""

    status: Sequence[str] = ()
    operation: Sequence[Operation] = ()
    subscriber: Sequence[str] = ()
    requested_by: Sequence[str] = ()
    urgency: Sequence[Urgency] = ()
    created_from: datetime | None = None
    created_until: datetime | None = None
    only: Collection[tuple[str, str]] | None = None
    """Only these open orders (tenant, order id). None: all orders."""


_OPENED = """
    SELECT tenant_id AS tenant, order_id, operation, subscriber_ref, status,
           coalesce(result ->> 'reason', '') AS reason, urgency, requested_by, created_at,
           NULL::timestamptz AS not_before, finished_at, result
    FROM orders
"""
_ACCEPTED = """
    SELECT tenant_id AS tenant, order_id, operation, subscriber_ref, state AS status, coalesce(reason, '') AS reason,
           urgency, requested_by, accepted_at AS created_at, not_before, NULL::timestamptz AS finished_at,
           NULL::jsonb AS result
    FROM accepted_orders
"""
_FIND = text(f"{_OPENED} WHERE order_id = :order_id UNION ALL {_ACCEPTED} WHERE order_id = :order_id LIMIT 1")


_ASKED = """(tenant_id, order_id) IN (
    SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:order_ids AS text[])))"""
_FIND_ALL = text(f"{_OPENED} WHERE {_ASKED} UNION ALL {_ACCEPTED} WHERE {_ASKED}")


def _page_in(status: str, at: str, beyond: str, direction: str, more: str = "true") -> str:
    """Return the conditions, the order and the limit of the page in one table: its index has the order."""
    first = "infinity" if direction == "DESC" else "-infinity"
    begin = f"coalesce(CAST(:at AS timestamptz), '{first}')"
    earliest = "coalesce(CAST(:created_from AS timestamptz), '-infinity')"
    latest = "coalesce(CAST(:created_until AS timestamptz), 'infinity')"
    # One condition for where the page begins: of two, PostgreSQL may start at the wider one, and read all pages before.
    if direction == "DESC":
        latest = f"least({latest}, {begin})"
    else:
        earliest = f"greatest({earliest}, {begin})"
    return f"""
        WHERE tenant_id = t.id AND {more}
          AND (CAST(:statuses AS text[]) = '{{}}' OR {status} = ANY(CAST(:statuses AS text[])))
          AND (CAST(:operations AS text[]) = '{{}}' OR operation = ANY(CAST(:operations AS text[])))
          AND (CAST(:subscribers AS text[]) = '{{}}' OR subscriber_ref = ANY(CAST(:subscribers AS text[])))
          AND (CAST(:requesters AS text[]) = '{{}}' OR requested_by = ANY(CAST(:requesters AS text[])))
          AND (CAST(:urgencies AS text[]) = '{{}}' OR urgency = ANY(CAST(:urgencies AS text[])))
          AND {at} >= {earliest} AND {at} <= {latest}
          AND ({at}, tenant_id, order_id) {beyond} ({begin}, :tenant, :order_id)
        ORDER BY {at} {direction}, tenant_id {direction}, order_id {direction} LIMIT :limit
    """


def _list(beyond: str, direction: str, *, parked: bool) -> TextClause:
    """Return the query of a page. For each tenant, the page is read from the index of each table.

    The few rows are then sorted. Parked orders are open ones, which have an index of their own.
    """
    if parked:
        unfinished = f"lastmile_order_unfinished(status) AND {_ASKED}"
        tables = f"{_OPENED} {_page_in('status', 'created_at', beyond, direction, unfinished)}"
    else:
        tables = f"""
            ({_OPENED} {_page_in("status", "created_at", beyond, direction)})
            UNION ALL
            ({_ACCEPTED} {_page_in("state", "accepted_at", beyond, direction)})
        """
    return text(
        f"""
        SELECT found.* FROM tenants t CROSS JOIN LATERAL ({tables}) found
        ORDER BY created_at {direction}, tenant {direction}, order_id {direction} LIMIT :limit
        """
    )


class OrderSort(StrEnum):
    """How the orders are sorted: the index by time serves both."""

    NEWEST_FIRST = "-created_at"
    OLDEST_FIRST = "created_at"


_DIRECTIONS = {OrderSort.NEWEST_FIRST: ("<", "DESC"), OrderSort.OLDEST_FIRST: (">", "ASC")}
_LISTS = {
    (sort, parked): _list(*direction, parked=parked)
    for sort, direction in _DIRECTIONS.items()
    for parked in (False, True)
}


async def find_order_record(database: Database, tenant: str, order_id: str) -> OrderRecord | None:
    """Return the order; None where the tenant has no order of this id."""
    async with database.tenant(tenant) as connection:
        return await read_order_record(connection, order_id)


async def read_order_record(connection: TenantConnection, order_id: str) -> OrderRecord | None:
    """As `find_order_record`, in the caller's transaction."""
    row = (await connection.execute(_FIND, {"order_id": order_id})).one_or_none()
    return None if row is None else _record(row)


async def find_order_records(database: Database, keys: Sequence[tuple[str, str]]) -> list[OrderRecord]:
    """Return those of the orders (tenant, order id) that there are."""
    values = {"tenants": [tenant for tenant, _ in keys], "order_ids": [order_id for _, order_id in keys]}
    async with database.platform() as connection:
        rows = (await connection.execute(_FIND_ALL, values)).all()
    return [_record(row) for row in rows]


async def list_order_records(
    database: Database,
    tenant: str | None,
    request: PageRequest,
    wanted: OrderFilter,
    sort: OrderSort = OrderSort.NEWEST_FIRST,
) -> Page[OrderRecord]:
    """Return a page of the orders of the tenant, or of all tenants."""
    at, after_tenant, after_order = request.after or (None, "", "")
    values = {
        "statuses": list(wanted.status),
        "operations": [operation.value for operation in wanted.operation],
        "subscribers": list(wanted.subscriber),
        "requesters": list(wanted.requested_by),
        "urgencies": [urgency.value for urgency in wanted.urgency],
        "created_from": wanted.created_from,
        "created_until": wanted.created_until,
        "at": None if at is None else datetime.fromisoformat(str(at)),
        "tenant": after_tenant,
        "order_id": after_order,
        "limit": request.limit + 1,
    }
    if wanted.only is not None:
        values |= {"tenants": [of for of, _ in wanted.only], "order_ids": [order_id for _, order_id in wanted.only]}
    async with reading(database, tenant) as connection:
        rows = (await connection.execute(_LISTS[sort, wanted.only is not None], values)).all()
    return page_of(rows, request, _record, lambda row: (row.created_at.isoformat(), row.tenant, row.order_id))


def _record(row: Any) -> OrderRecord:
    return OrderRecord.model_validate(dict(row._mapping))
