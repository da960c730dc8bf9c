"""A page deep in a list reads as little as the first page."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event

from lastmile.db import Database
from lastmile.services.records.delegations import DelegationFilter, list_delegations
from lastmile.services.records.network_profiles import NetworkProfileFilter, list_network_profiles
from lastmile.services.records.orders import OrderFilter, OrderSort, list_order_records
from lastmile.services.records.pages import Page, PageRequest, reading
from lastmile.services.records.subscriber_list import SubscriberFilter, list_subscribers

RECORDS = 6_000
FILL = f"""
SET session_replication_role = replica;
INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, created_at)
SELECT 'acme', 'O-' || n, 'suspend', 'changes', 'S-' || n, 'd', 'r', 'completed', now() - n * interval '1 second'
FROM generate_series(1, {RECORDS}) n;
INSERT INTO customers (tenant_id, ref, name, created_by_order)
SELECT 'acme', 'C-' || n, 'Ada', 'O-' || n FROM generate_series(1, {RECORDS}) n;
INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
SELECT 'acme', 'S-' || n, c.id, 'O-' || n FROM generate_series(1, {RECORDS}) n JOIN customers c ON c.ref = 'C-' || n;
INSERT INTO network_profiles (tenant_id, subscriber_id, connection_type, option82_policy, created_by_order)
SELECT 'acme', id, 'ftth', 'none', created_by_order FROM subscribers;
INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key, created_by_order,
                         state)
SELECT 'acme', p.id, n, lastmile_nth_prefix(p.prefix, 56, n), 'S-' || n, 'ipv6_pd', 'acme/S-' || n, 'O-' || n, 'active'
FROM pools p, generate_series(1, {RECORDS}) n WHERE p.name = 'home';
SET session_replication_role = origin;
"""

Read = Callable[[Database, PageRequest], Awaitable[Page[Any]]]
LISTS: dict[str, Read] = {
    "orders": lambda database, page: list_order_records(database, "acme", page, OrderFilter()),
    "orders, oldest first": lambda database, page: list_order_records(
        database, "acme", page, OrderFilter(), OrderSort.OLDEST_FIRST
    ),
    "orders of all tenants": lambda database, page: list_order_records(database, None, page, OrderFilter()),
    "subscribers": lambda database, page: list_subscribers(database, "acme", page, SubscriberFilter(), personal=True),
    "subscribers of all tenants": lambda database, page: list_subscribers(
        database, None, page, SubscriberFilter(), personal=True
    ),
    "network profiles": lambda database, page: list_network_profiles(database, "acme", page, NetworkProfileFilter()),
    "delegations": lambda database, page: list_delegations(database, "acme", page, DelegationFilter()),
}


@pytest.fixture
async def filled(database: Database, owner: asyncpg.Connection) -> Database:
    """Return a database with thousands of records, and with statistics of them."""
    await owner.execute(FILL)
    await owner.execute("VACUUM ANALYZE")
    return database


async def test_deep_page_reads_no_more_blocks_than_the_first(filled: Database) -> None:
    more = {}
    for name, read in LISTS.items():
        tenant = None if name.endswith("of all tenants") else "acme"
        page, number = await read(filled, PageRequest(1000)), 1
        while number < RECORDS // 1000 - 1:
            assert page.after is not None
            page, number = await read(filled, PageRequest(1000, page.after)), number + 1
        first = await blocks(filled, tenant, read, PageRequest(10))
        deep = await blocks(filled, tenant, read, PageRequest(10, page.after))
        if deep > first + 10:
            more[name] = f"{deep} blocks, and the first page {first}"
    assert more == {}


async def blocks(database: Database, tenant: str | None, read: Read, request: PageRequest) -> int:
    """Return how many blocks PostgreSQL reads for the page."""
    seen: list[tuple[str, Any]] = []

    def on_execute(_: object, __: object, statement: str, parameters: Any, *more: object) -> None:
        seen.append((statement, parameters))

    event.listen(database.engine.sync_engine, "before_cursor_execute", on_execute)
    try:
        assert len((await read(database, request)).results) == request.limit
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", on_execute)
    ((statement, parameters),) = [one for one in seen if "LIMIT" in one[0]]
    async with reading(database, tenant) as connection:
        explained = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        plan = explained.scalar_one()
    root = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return int(root["Shared Hit Blocks"]) + int(root["Shared Read Blocks"])
