"""The duration of a metrics snapshot for 1 000 000 and 10 000 000 delegations, next to one count of the delegations."""

import time
from statistics import median

import asyncpg

from bench.copies import SETTLE, as_owner, copied
from bench.measurements import Measurement, Target
from lastmile.db import Database
from lastmile.metrics.counts import compact_counts
from lastmile.metrics.snapshot import compute_snapshot as take

__all__ = ["LARGE", "SIZE", "measure"]

SIZE, LARGE = 1_000_000, 10_000_000
ROUNDS = 5
CHANGES = 300_000
"""Changes since the previous snapshot: five minutes at a thousand per second."""

# Ten tenants with a pool each. Of 1 000 delegations, 970 are active, 20 have ended and are in quarantine, 8 are
# suspended, one is allocated and one is being revoked. The fill omits parts that no metric uses: indexes and distinct
# prefixes.
_FILL = """
SET session_replication_role = replica;
SET synchronous_commit = off;
DROP INDEX delegations_by_prefix, delegations_by_subscriber, delegations_live, delegations_slot, slots_by_delegation;
ALTER TABLE delegations DROP CONSTRAINT delegations_key;
INSERT INTO tenants (id, name) SELECT 't' || n, 'Tenant ' || n FROM generate_series(0, 9) n;
INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier)
SELECT 't' || n, 'home', 'ipv6_pd', ('2001:db' || n || '::/32')::cidr, 56, 0, 16777216, {size} / 10
FROM generate_series(0, 9) n;
INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key, created_by_order,
                         state, state_since, released_at)
SELECT p.tenant_id, p.id, n, p.prefix, 'S-' || n, 'ipv6_pd', n::text, 'O-' || n,
       CASE WHEN n % 1000 < 20 THEN 'revoked' WHEN n % 1000 < 28 THEN 'suspended' WHEN n % 1000 = 28 THEN 'allocated'
            WHEN n % 1000 = 29 THEN 'revoking' ELSE 'active' END,
       now() - n % 172800 * interval '1 second', CASE WHEN n % 1000 < 20 THEN now() END
FROM pools p, generate_series(0, {size} / 10 - 1) n;
INSERT INTO slots (pool_id, slot, tenant_id, delegation_id, free_at)
SELECT pool_id, slot, tenant_id, CASE WHEN released_at IS NULL THEN id END,
       CASE WHEN released_at IS NULL THEN '-infinity' ELSE now() + slot % 86400 * interval '1 second' END
FROM delegations;
INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)
SELECT tenant_id, created_by_order, 'provision', 'creates', subscriber_ref, 'd', 'r',
       CASE WHEN state IN ('allocated', 'revoking') THEN 'running' ELSE 'completed' END
FROM delegations WHERE slot % 10 = 8;
SET session_replication_role = DEFAULT;
"""

_CHANGES = f"""
INSERT INTO delegation_counts
SELECT tenant_id, pool_id, state, held, in_netbox, 1 - n % 2 * 2
FROM (SELECT * FROM delegation_counts WHERE state = 'active' LIMIT 10) kinds, generate_series(1, {CHANGES // 10}) n
"""


async def measure(postgres_url: str, sizes: tuple[int, ...]) -> list[Measurement]:
    """Measure snapshots. `postgres_url` is migrated and has no connections."""
    return [measurement for size in sizes for measurement in await _of(postgres_url, size)]


async def _of(postgres_url: str, size: int) -> list[Measurement]:
    async with copied(postgres_url, f"bench_snapshot_{size}") as url:
        await as_owner(url, _FILL.format(size=size), "SELECT lastmile_recount()", *SETTLE)
        database = Database(url)
        try:
            await take(database)
            quiet = median([await _seconds(database) for _ in range(ROUNDS)])
            await as_owner(url, _CHANGES)
            began = time.perf_counter()
            await compact_counts(database)
            folding = time.perf_counter() - began
        finally:
            await database.close()
        counting = await _counting(url)
    peer, most = "a count of the delegations of each kind", Target("value", "≤", 1)
    return [
        Measurement(f"metrics snapshot of {size:,} delegations", quiet, "s", peer, counting, most),
        Measurement(f"compaction of {CHANGES:,} changes, before that of {size:,}", folding, "s"),
    ]


async def _seconds(database: Database) -> float:
    began = time.perf_counter()
    await take(database)
    return time.perf_counter() - began


async def _counting(owner_url: str) -> float:
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.fetch("SELECT * FROM delegation_census")
        began = time.perf_counter()
        await owner.fetch("SELECT * FROM delegation_census")
        return time.perf_counter() - began
    finally:
        await owner.close()
