"""A renumbering of a pool whose worker is killed. Both workers have the same pauses: a replay compares timers."""

import asyncio

import asyncpg
from temporalio.client import Client

from lastmile.audit.audit import check
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.orders import Orders
from tests.support.pool_renumberings import Renumberings
from tests.workflows.every_way import victim
from tests.workflows.every_way.victim import Death, Moment

HELD = """
    SELECT p.name, count(*) FROM delegations d JOIN pools p ON p.id = d.pool_id WHERE d.released_at IS NULL GROUP BY 1
"""
SENT = """
    SELECT sent, count(*) FROM (
        SELECT count(*) AS sent FROM orders WHERE operation = 'renumber' GROUP BY subscriber_ref) lines
    GROUP BY sent
"""


async def test_renumbering_of_a_killed_worker_continues_on_another_worker(
    client: Client,
    temporal_address: str,
    owner_url: str,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    orders: Orders,
    owner: asyncpg.Connection,
) -> None:
    """The worker, a process of its own, is killed as the order of one line begins its switch."""
    renumberings = Renumberings(client, settings.task_queue, database, owner)
    async with build_worker(client, settings, database, authorization):
        await renumberings.lines(orders, 6)
    delegation = await owner.fetchval("SELECT id FROM delegations ORDER BY id OFFSET 3 LIMIT 1")
    death = Death((f"renumber-pool-{delegation}-1", "switch_addresses"), Moment.BEFORE)
    process = await asyncio.to_thread(victim.start, temporal_address, owner_url, settings, death)
    try:
        run = await renumberings.start()
        await victim.until_dead(process)
    finally:
        victim.end(process)

    async with build_worker(client, settings, database, authorization):
        result = await run.result()

    assert (result.renumbered, result.failed, result.left) == (6, 0, {})
    assert [tuple(row) for row in await owner.fetch(HELD)] == [("new", 6)]
    assert [tuple(row) for row in await owner.fetch(SENT)] == [(1, 6)], "one order for each line"
    assert await owner.fetchval("SELECT count(*) FROM delegations") == 12, "one more prefix for each line"
    assert [found.invariant.name async for found in check(database)] == []
