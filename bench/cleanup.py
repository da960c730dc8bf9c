"""The daily cleanup of 1 000 000 old ended delegations, next to one statement that deletes them."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Network
from typing import Any

import asyncpg
import psutil
from temporalio.client import Client

from bench.copies import SETTLE, as_owner, copied
from bench.measurements import Measurement, Target, at_least
from bench.rounds import Measured, medians
from lastmile.client.temporal.connection import connect
from lastmile.contract import CleanupResult
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker

__all__ = ["measure"]

SIZE = 1_000_000
ROUNDS = 3
LONG_AGO = timedelta(days=91)
SLOTS = 256
"""The number of prefixes in the pool. Each had many holders, one after the other."""
MOST_MEGABYTES = 64

_COLUMNS = ("tenant_id", "pool_id", "slot", "prefix", "subscriber_ref", "purpose", "allocation_key", "created_by_order")
_TIMES = ("state", "state_since", "created_at", "released_at")
_SETUP = """
INSERT INTO tenants (id, name) VALUES ('acme', 'Acme Broadband');
INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier)
VALUES ('acme', 'home', 'ipv6_pd', '2001:db8::/48', 56, 0, 256, 256);
"""
_BARE = "DELETE FROM delegations WHERE released_at < now() - interval '90 days'"


async def measure(postgres_url: str, temporal_address: str, size: int = SIZE) -> list[Measurement]:
    """Measure the cleanup. `postgres_url` is migrated and has no connections."""
    client = await connect({"TEMPORAL_ADDRESS": temporal_address})
    async with copied(postgres_url, "bench_ended") as url:
        await _fill(url, size)
        await as_owner(url, "SELECT lastmile_recount()", *SETTLE)

        async def bare() -> Measured:
            async with copied(url, "bench_ended_bare") as copy:
                began = time.perf_counter()
                await as_owner(copy, _BARE)
                return {"rate": size / (time.perf_counter() - began)}

        async def ours() -> Measured:
            async with copied(url, "bench_ended_ours") as copy, _worker(client, copy) as queue, _memory() as most:
                began = time.perf_counter()
                deleted = await _clean_up(client, queue)
                seconds = time.perf_counter() - began
            if deleted != size:
                raise RuntimeError(f"the cleanup deleted {deleted:,} delegations of {size:,}")
            return {"rate": size / seconds, "memory": most[0]}

        found = await medians(ROUNDS, {"bare": bare, "ours": ours})
    return [
        Measurement(
            f"cleanup of {size:,} ended delegations",
            found["ours"]["rate"],
            "/s",
            "one statement that deletes them",
            found["bare"]["rate"],
            at_least(0.5),
        ),
        Measurement(
            "growth of the worker's memory",
            found["ours"]["memory"],
            "MB",
            target=Target("value", "≤", MOST_MEGABYTES),
        ),
    ]


async def _fill(owner_url: str, size: int) -> None:
    """Insert delegations that ended one after the other, and their orders, by COPY."""
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        await owner.execute(_SETUP)
        pool = await owner.fetchval("SELECT id FROM pools")
        await owner.copy_records_to_table("delegations", records=_ended(pool, size), columns=(*_COLUMNS, *_TIMES))
        await owner.execute(
            "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
            " SELECT tenant_id, created_by_order, 'provision', 'creates', subscriber_ref, 'd', 'r', 'completed'"
            " FROM delegations"
        )
    finally:
        await owner.close()


def _ended(pool: int, size: int) -> Iterator[tuple[Any, ...]]:
    ended = datetime.now(UTC) - LONG_AGO
    prefixes = list(IPv6Network("2001:db8::/48").subnets(new_prefix=56))
    for n in range(size):
        at = ended - timedelta(milliseconds=size - n)
        key = f"acme/S-{n}/ipv6_pd/O-{n}"
        whose = ("acme", pool, n % SLOTS, prefixes[n % SLOTS], f"S-{n}", "ipv6_pd", key, f"O-{n}")
        yield (*whose, "revoked", at, at, at)


@asynccontextmanager
async def _worker(client: Client, database_url: str) -> AsyncIterator[str]:
    """Run a worker in this process, and provide its task queue."""
    settings = Settings(task_queue=f"bench-cleanup-{uuid.uuid4().hex}")
    database = Database(database_url, pool_size=settings.database_pool_size)
    try:
        async with (
            DynamicAuthorization(timeout=1, tries=1, in_flight=1) as authorization,
            build_worker(client, settings, database, authorization),
        ):
            yield settings.task_queue
    finally:
        await database.close()


async def _clean_up(client: Client, task_queue: str) -> int:
    result: CleanupResult = await client.execute_workflow(
        "StalePrefixCleanup", id=f"{task_queue}/cleanup", task_queue=task_queue, result_type=CleanupResult
    )
    return result.revoked_deleted


@asynccontextmanager
async def _memory() -> AsyncIterator[list[float]]:
    """Provide the largest growth of this process during the block, in megabytes."""
    me = psutil.Process()
    before = me.memory_info().rss
    most = [0.0]

    async def watch() -> None:
        while True:
            most[0] = max(most[0], (me.memory_info().rss - before) / 1e6)
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        yield most
    finally:
        watching.cancel()
