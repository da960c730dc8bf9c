"""The renumbering of a pool: lines per second, and the memory of the worker."""

import asyncio
import time
import uuid

import asyncpg
import psutil

from bench.copies import SETTLE, as_owner, copied
from bench.measurements import Measurement, Target
from lastmile.client.operator_client import OperatorClient
from lastmile.client.pool_renumbering import start_renumbering
from lastmile.client.temporal.connection import connect
from lastmile.contract.addressing import Purpose
from lastmile.contract.pool_renumbering import PoolRenumbering
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker

__all__ = ["LINES", "measure"]

LINES = 10_000
AT_ONCE = 999_999
"""Lines per hour: the worker sets the pace."""
CACHED_RUNS = 200
"""More than the active runs. The cache of runs is full after this number of lines."""
SAMPLE_SECONDS = 0.2
MOST_MEGABYTES = 64

# What a renumber order reads and changes of a line.
_FILL = """
INSERT INTO tenants (id, name) VALUES ('acme', 'Acme Broadband');
INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier, closed_at)
VALUES ('acme', 'old', 'ipv6_pd', '3fff::/36', 56, 0, 1048576, {lines}, now()),
       ('acme', 'new', 'ipv6_pd', '3fff:1000::/36', 56, 0, 1048576, 0, NULL);
INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES ('acme', 'C-1', 'Ada Lovelace', 'O');
INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
SELECT 'acme', 'S-' || n, c.id, 'O-' || n FROM customers c, generate_series(0, {lines} - 1) n;
INSERT INTO radcheck (username, attribute, op, value, tenant_id, subscriber_ref, created_by_order)
SELECT 'S-' || n || '@acme.lastmile', 'Cleartext-Password', ':=', 'secret', 'acme', 'S-' || n, 'O-' || n
FROM generate_series(0, {lines} - 1) n;
WITH held AS (
    INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                             created_by_order, state)
    SELECT 'acme', p.id, n, lastmile_nth_prefix(p.prefix, 56, n), 'S-' || n, 'ipv6_pd',
           'acme/S-' || n || '/ipv6_pd/O-' || n, 'O-' || n, 'active'
    FROM pools p, generate_series(0, {lines} - 1) n WHERE p.name = 'old'
    RETURNING id, pool_id, slot
)
INSERT INTO slots (pool_id, slot, tenant_id, delegation_id) SELECT pool_id, slot, 'acme', id FROM held;
"""
_LEFT = (
    "SELECT count(*) FROM delegations d JOIN pools p ON p.id = d.pool_id WHERE p.name = 'old' AND released_at IS NULL"
)


async def measure(postgres_url: str, temporal_address: str, lines: int = LINES) -> list[Measurement]:
    """Renumber a pool with these lines. `postgres_url` is migrated and has no connections."""
    client = await connect({"TEMPORAL_ADDRESS": temporal_address})
    settings = Settings(task_queue=f"bench-renumbering-{uuid.uuid4().hex}", max_cached_workflows=CACHED_RUNS)
    async with copied(postgres_url, "bench_renumbering") as url:
        await as_owner(url, _FILL.format(lines=lines), *SETTLE)
        database = Database(url, pool_size=settings.database_pool_size)
        owner = await asyncpg.connect(url)
        try:
            async with (
                DynamicAuthorization(timeout=1, tries=1, in_flight=1) as authorization,
                build_worker(client, settings, database, authorization),
            ):
                operator = OperatorClient(client, settings.task_queue)
                began = time.perf_counter()
                run = await start_renumbering(operator, await _request(owner))
                growth = await _watch_memory(owner, asyncio.create_task(run.result()), lines)
                seconds = time.perf_counter() - began
                result = await run.result()
        finally:
            await owner.close()
            await database.close()
    if result.renumbered != lines or result.left:
        raise RuntimeError(f"the renumbering ended: {result.words}; {result.problems}")
    return [
        Measurement(f"renumbering of a pool of {lines:,} lines", lines / seconds, "lines/s"),
        Measurement(
            "growth of the worker's memory in the second half",
            growth,
            "MB",
            target=Target("value", "≤", MOST_MEGABYTES),
        ),
    ]


async def _request(owner: asyncpg.Connection) -> PoolRenumbering:
    return PoolRenumbering(
        pool_id=await owner.fetchval("SELECT id FROM pools WHERE name = 'old'"),
        pool="old",
        purpose=Purpose.IPV6_PD,
        target="new",
        lines_per_hour=AT_ONCE,
        overlap_hours=0,
        failed_percent=0,
        requested_by="bench",
    )


async def _watch_memory(owner: asyncpg.Connection, ended: asyncio.Task[object], lines: int) -> float:
    """Wait for the end. Return the growth of this process in the second half of the lines, in megabytes."""
    me = psutil.Process()
    first = most = 0.0
    while not ended.done():
        used = me.memory_info().rss / 1e6
        most = max(most, used)
        if not first and await owner.fetchval(_LEFT) <= lines / 2:
            first = most
        await asyncio.wait([ended], timeout=SAMPLE_SECONDS)
    return most - first
