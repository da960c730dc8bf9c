"""The cost of an allocation in PostgreSQL, in a large and in an empty pool: rows read, and plans."""

import pytest
from sqlalchemy import text

from ipam.allocation import FRONTIER_BATCH, allocate
from lastmile.db import Database
from tests.support.allocation_env import PD, AllocationEnv
from tests.support.round_trips import counted

# So many that a sample (of 30 000 rows) says little about the few that are free.
FILL = """
WITH pool AS (UPDATE pools SET frontier = $1 RETURNING id, tenant_id)
INSERT INTO slots (pool_id, slot, tenant_id, delegation_id)
SELECT id, slot, tenant_id, CASE WHEN slot < $2 THEN -1 - slot END FROM pool, generate_series(0, $1::bigint - 1) AS slot
"""
# Entries and rows that this connection has read, of the tables that grow with the pool.
READ = text(
    """
    SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM (
        SELECT indexrelid AS oid, indrelid AS relation FROM pg_index UNION ALL SELECT oid, oid FROM pg_class) relations
    WHERE relation IN ('slots'::regclass, 'delegations'::regclass)
    """
)
PLANS = text("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE :part")


async def _entries_read(env: AllocationEnv, ref: str) -> int:
    async with env.database.tenant("acme") as connection:
        # As in production: entries of a row are known to be dead once its last change is on disk.
        await connection.execute(text("SET LOCAL synchronous_commit = on"))
        before = (await connection.execute(READ)).scalar_one()
        await allocate(connection, tenant="acme", subscriber_ref=ref, order_id="o1", need=PD)
        return int((await connection.execute(READ)).scalar_one() - before)


@pytest.mark.parametrize("free", [0, 8 * FRONTIER_BATCH])
async def test_allocation_reads_equally_little_in_full_and_empty_pools(env: AllocationEnv, free: int) -> None:
    await env.pool("2001:db8::/32")
    taken = 50_000
    await env.owner.execute(FILL, taken + free, taken)
    await env.owner.execute("ANALYZE slots")
    await env.allocate("S-first")  # where none is free, it moves the frontier
    read = [await _entries_read(env, f"S-{n}") for n in range(20)]
    assert max(read) <= 5, read
    async with env.database.tenant("acme") as connection:
        generic, custom = (await connection.execute(PLANS, {"part": "%SKIP LOCKED%"})).one()
    # PostgreSQL tries custom plans five times before it uses a generic plan.
    assert (generic > 0, custom) == (True, 5), "every allocation is planned anew"


async def test_allocation_in_its_own_transaction_takes_three_round_trips(env: AllocationEnv, owner_url: str) -> None:
    """BEGIN with the settings, the statement, and COMMIT."""
    await env.pool("2001:db8::/32")
    async with counted(owner_url) as trips:
        database = Database(trips.url)
        lone = AllocationEnv(database, env.owner)
        try:
            await lone.allocate("S-1")  # connects, prepares the statement and moves the frontier
            before = trips.count
            assert (await lone.allocate("S-2")).created
            assert trips.count - before == 3
        finally:
            await database.close()


async def test_conditions_on_pools_are_inlined_so_that_the_index_is_used(env: AllocationEnv) -> None:
    await env.pool("2001:db8::/32")
    asked = "lastmile_pool_is_candidate(pools, 'ipv6_pd', 56, '', NULL, NULL, NULL)"
    asked += " AND lastmile_pool_can_grow(pools) AND NOT lastmile_pool_is_changing(pools)"
    async with env.database.tenant("acme") as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(await connection.scalars(text(f"EXPLAIN SELECT id FROM pools WHERE {asked}")))
    assert "lastmile_pool" not in plan
    assert "Index Cond: ((purpose = 'ipv6_pd'::text) AND (delegated_length = 56))" in plan
