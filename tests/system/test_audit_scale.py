"""Tests of the audit's queries with many delegations: joins over whole tables, no nested loops.

A nested loop scans a table once for each row. `make test-every-way` has more rows.
"""

import asyncio
import os
import time

import asyncpg
import pytest

from lastmile.audit.audit import check
from lastmile.audit.invariant import Invariant
from lastmile.audit.invariants import INVARIANTS
from lastmile.db import Database

DELEGATIONS = 200_000 if "LASTMILE_EVERY_CASE" in os.environ else 40_000

# The records of one tenant's orders without violations, inserted in bulk.
ESTATE = f"""
SET session_replication_role = replica;
INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier)
    VALUES ('acme', 'big', 'ipv6_pd', '2001:db9::/32', 56, 0, 16777216, {DELEGATIONS + 1});
INSERT INTO customers (tenant_id, ref, name, created_by_order)
    SELECT 'acme', 'C-' || n, 'Ada', 'O-' || n FROM generate_series(1, {DELEGATIONS}) n;
INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
    SELECT 'acme', replace(ref, 'C', 'S'), id, created_by_order FROM customers;
INSERT INTO network_profiles (tenant_id, subscriber_id, connection_type, option82_policy, created_by_order)
    SELECT 'acme', id, 'ftth', 'log', created_by_order FROM subscribers;
INSERT INTO billing_services (tenant_id, subscriber_id, plan, status, created_by_order)
    SELECT 'acme', id, 'home', 'active', created_by_order FROM subscribers;
INSERT INTO radcheck (username, attribute, op, value, tenant_id, subscriber_ref, created_by_order)
    SELECT ref || '@acme.lastmile', 'Cleartext-Password', ':=', 'p', 'acme', ref, created_by_order FROM subscribers;
INSERT INTO radusergroup (username, groupname, priority, tenant_id)
    SELECT ref || '@acme.lastmile', 'home-50000-10000@acme.lastmile', 1, 'acme' FROM subscribers;
INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                         created_by_order, state)
    SELECT 'acme', p.id, n, lastmile_nth_prefix(p.prefix, 56, n), 'S-' || n, 'ipv6_pd', n::text, 'O-' || n, 'active'
    FROM pools p, generate_series(1, {DELEGATIONS}) n WHERE p.name = 'big';
INSERT INTO slots (pool_id, slot, tenant_id, delegation_id) SELECT pool_id, slot, 'acme', id FROM delegations;
INSERT INTO radreply (username, attribute, op, value, tenant_id)
    SELECT subscriber_ref || '@acme.lastmile', 'Delegated-IPv6-Prefix', ':=', prefix::text, 'acme' FROM delegations;
INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, result)
    SELECT 'acme', created_by_order, 'provision', 'creates', subscriber_ref, 'd', 'r1', 'completed',
           jsonb_build_object('created', jsonb_build_object('ipv6_prefix', prefix::text)) FROM delegations;
SET session_replication_role = DEFAULT;
SELECT lastmile_recount();
"""

# A connection writes its statistics at its end.
OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'lastmile' AND pid <> $1
"""


@pytest.fixture
async def big(owner: asyncpg.Connection, database: Database) -> asyncpg.Connection:
    await owner.execute(ESTATE)
    await owner.execute("ANALYZE")
    return owner


async def scans(owner: asyncpg.Connection, database: Database) -> int:
    """Return the number of scans of all tables and indexes."""
    async with database.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute("SELECT pg_stat_force_next_flush()")
        while True:
            if not await owner.fetchval(OTHERS, driver.get_server_pid()):
                break
            await asyncio.sleep(0.01)
    await owner.execute("SELECT pg_stat_clear_snapshot()")
    return int(await owner.fetchval("SELECT sum(seq_scan + coalesce(idx_scan, 0)) FROM pg_stat_user_tables"))


async def test_invariant_queries_scan_each_table_a_few_times(big: asyncpg.Connection, database: Database) -> None:
    for invariant in INVARIANTS:
        before, began = await scans(big, database), time.perf_counter()
        found = [violation async for violation in check(database, invariants=[invariant])]
        assert found[:3] == [], invariant.name
        took = time.perf_counter() - began
        times = await scans(big, database) - before
        print(f"{invariant.name:18} {took:6.2f} s, {times} scans")
        assert 0 < times < 100, invariant.name


IDLE = """
SELECT NULL AS tenant, 'idle' AS subject, current_setting('idle_in_transaction_session_timeout') AS words, '' AS key
WHERE CAST(:tenant AS text) IS NULL
"""


async def test_check_disables_the_idle_time_out_of_its_transaction(database: Database) -> None:
    [found] = [violation async for violation in check(database, invariants=[Invariant("idle", 1, "", IDLE, "")])]
    assert found.words == "0"
