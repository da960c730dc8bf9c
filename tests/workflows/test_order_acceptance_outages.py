"""Accepted orders survive Temporal's outage and the death of the process that accepts them, and run once each."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from temporalio.client import Client

from lastmile.client.accepted_order_sweeper import AcceptedOrderSweeper
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.orders import Lastmile
from lastmile.db import Database
from lastmile.devstack.temporal import DevTemporal
from lastmile.settings import Settings
from tests.support.accepting_process import AcceptingProcess
from tests.support.orders import Orders
from tests.support.processes import environment_of, healthy, port_of, started, until

KILLS = int(os.environ.get("LASTMILE_ACCEPTANCE_KILLS", "4"))
"""How many processes are killed while they accept orders."""
AT_ONCE = 4
"""How many such processes run at the same moment."""


async def test_orders_accepted_while_temporal_is_stopped_run_when_it_is_back(
    database: Database,
    owner: asyncpg.Connection,
    owner_url: str,
    orders: Orders,
    tmp_path: Path,
    temporal_program: Path,
) -> None:
    """The worker, a process of its own, stays; its sweeper starts the orders."""
    file = tmp_path / "temporal.db"
    async with DevTemporal(tmp_path, program=temporal_program, database=file) as temporal:
        address = temporal.address
        environment = await environment_of(tmp_path, owner_url, address, task_queue=orders.ref)
        worker = started(environment)
        await worker.__aenter__()
        await healthy(port_of(environment))
    try:
        lastmile = Lastmile(await Client.connect(address, lazy=True), task_queue=orders.ref)
        async with OrderAcceptance(database, lastmile) as acceptance:
            for number in range(5):
                assert (await acceptance.accept(orders.provision(f"O-{number}", nth=number))).new
        # The process that has accepted the orders is gone, and has started none.
        assert await owner.fetchval("SELECT count(*) FROM accepted_orders WHERE state = 'waiting'") == 5
        async with DevTemporal(tmp_path, program=temporal_program, database=file):
            await until(lambda: _completed(owner, 5))
        assert await owner.fetchval("SELECT count(*) FROM accepted_orders") == 0
    finally:
        await worker.__aexit__(None, None, None)


@pytest.fixture
async def sweeping(database: Database, lastmile: Lastmile) -> AsyncIterator[None]:
    """Run the sweepers of two workers. They take each order at once: so they race the process that accepts it."""
    first, second = (AcceptedOrderSweeper(database, lastmile, age=timedelta()) for _ in range(2))
    async with first, second:
        yield


@pytest.mark.timeout(240 + 4 * KILLS)
@pytest.mark.usefixtures("sweeping")
async def test_killed_processes_lose_no_accepted_order_and_no_order_runs_twice(
    owner: asyncpg.Connection, owner_url: str, temporal_address: str, settings: Settings, orders: Orders
) -> None:
    """Each process is killed at a random moment: before the commit of an order, between commit and start, or later."""
    accepted: list[str] = []
    for first in range(0, KILLS, AT_ONCE):
        rounds = range(first, min(first + AT_ONCE, KILLS))
        killed = (_accept_until_killed(owner_url, temporal_address, settings, orders, number) for number in rounds)
        accepted += [order_id for order_ids in await asyncio.gather(*killed) for order_id in order_ids]
        if first % (25 * AT_ONCE) == 0:  # so that the orders of a thousand processes are not all open at once
            await until(partial(_completed, owner, len(accepted)))
    assert len(accepted) >= KILLS
    await until(lambda: _completed(owner, len(accepted)))

    async def nothing_waits() -> bool:
        return not await owner.fetchval("SELECT count(*) FROM accepted_orders")

    await until(nothing_waits)
    there = {row["order_id"] for row in await owner.fetch("SELECT order_id FROM orders")}
    assert set(accepted) <= there, "an order that its process has confirmed is lost"
    await until(lambda: _completed(owner, len(there)))
    twice = await owner.fetch(
        "SELECT order_id FROM billing_events WHERE event = 'started' GROUP BY 1 HAVING count(*) > 1"
        " UNION ALL SELECT order_id FROM delegation_events WHERE to_state = 'allocated' GROUP BY 1 HAVING count(*) > 1"
    )
    assert [row["order_id"] for row in twice] == []
    assert await owner.fetchval("SELECT count(*) FROM delegations") == len(there)


async def _accept_until_killed(
    owner_url: str, temporal_address: str, settings: Settings, orders: Orders, number: int
) -> list[str]:
    """Run a process that accepts orders, and kill it. Return the ids of the orders that it has confirmed."""
    given = owner_url, temporal_address, settings.task_queue, orders.ref, number
    process = await asyncio.to_thread(AcceptingProcess, *given)
    first = await asyncio.to_thread(process.confirmation)
    await asyncio.sleep(random.uniform(0, 0.1))  # the moment of the kill
    return [first, *await asyncio.to_thread(process.kill)]


async def _completed(owner: asyncpg.Connection, number: int) -> bool:
    return bool(await owner.fetchval("SELECT count(*) FROM orders WHERE status = 'completed'") >= number)
