"""The change of a pool's mode, from each mode to each, with prefixes held and in quarantine, beside orders.

`make test-every-way` plays each fault of NetBox with each method.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from itertools import product

import asyncpg
import pytest
from temporalio.client import Client

from ipam.netbox.mode_change import preparation
from lastmile.client.pool_modes import PoolModeError
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import CUT, DROPPED, LOST, Fault
from tests.support.direct_env import PREFIXES
from tests.support.pool_mode_env import BLOCK, BLOCKS, DATABASE, DIRECT, HELD, PREFIX, PoolModeEnv, Way, resting
from workflows.maintenance import pool_mode_change


@pytest.fixture
async def env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer, temporal_client: Client
) -> AsyncIterator[PoolModeEnv]:
    async with PoolModeEnv.serving(owner_url, owner, netbox_server) as env, env.working(temporal_client):
        yield env


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_mode_change, "ROUND", timedelta(milliseconds=50))
    monkeypatch.setattr(preparation, "PAUSE", timedelta(milliseconds=50))


@pytest.mark.parametrize("after", [DIRECT, BLOCKS, PREFIX])
@pytest.mark.parametrize("before", [DATABASE, DIRECT, BLOCKS, PREFIX])
async def test_change_between_any_modes_keeps_holders_and_quarantines(
    env: PoolModeEnv, before: Way, after: Way
) -> None:
    await env.start(before)
    await env.lines(BLOCK + 3)
    await env.deprovision("S-1", "D-1")
    await env.begin("S-99", "O-99")
    await env.allocate("S-99", "O-99")
    if before == DATABASE:
        held = sorted(row[0] for row in await env.owner.fetch(HELD))
    else:
        if before == DIRECT:
            await env.run(env.addresses.activate_ipv6_lifecycle, env.ref("S-99", "O-99"))
        else:
            await env.finish("S-99", "O-99")
        held = await env.agree_as(before)
    rests = await resting(env)
    assert len(rests) == 1

    await env.change(after)

    if before == DATABASE:
        await env.finish("S-99", "O-99")
    elif before == DIRECT:
        await env.close("S-99", "O-99")
    assert await env.agree_as(after) == held
    assert await resting(env) == rests
    given = await env.lines(5, start=200)
    assert not set(given) & (set(held) | rests)
    for n in range(2, BLOCK + 4):
        await env.deprovision(f"S-{n}", f"D-{n}")
    assert await env.agree_as(after) == sorted([*given, *(set(held) & {await prefix_of(env, "S-99")})])
    await env.change(after)
    assert len(await env.agree_as(after)) == 6, "the repeated change changes nothing"


async def prefix_of(env: PoolModeEnv, ref: str) -> str:
    return str(
        await env.owner.fetchval(
            "SELECT prefix::text FROM delegations WHERE subscriber_ref = $1 AND released_at IS NULL", ref
        )
    )


@pytest.mark.parametrize("after", [DIRECT, BLOCKS, PREFIX])
@pytest.mark.parametrize("before", [DATABASE, DIRECT, BLOCKS, PREFIX])
async def test_orders_during_a_change_get_distinct_prefixes(env: PoolModeEnv, before: Way, after: Way) -> None:
    await env.start(before)
    await env.lines(8)

    async def customers(start: int) -> list[str]:
        async def one(n: int) -> str:
            ref, order = f"S-{n}", f"O-{n}"
            await env.begin(ref, order)
            prefix = str(await env.retry(lambda: env.allocate(ref, order), most=1000))
            await env.retry(lambda: env.activate(ref, order))
            await env.close(ref, order)
            return prefix

        return [await one(n) for n in range(start, start + 12)]

    async def leavers() -> None:
        for n in range(1, 9):
            ref, order = f"S-{n}", f"D-{n}"
            await env.begin(ref, order, "deprovision")
            for step in (env.addresses.revoke_ipv6_lifecycle, env.addresses.release_ip_address):
                await env.retry(partial(env.run, step, env.ref(ref, order)))
            await env.close(ref, order)

    async def operator() -> None:
        while True:
            try:
                return await env.change(after)
            except PoolModeError:
                await asyncio.sleep(0.01)

    first, second, *_ = await asyncio.gather(customers(100), customers(200), leavers(), operator())
    given = [*first, *second]
    assert len(set(given)) == 24
    assert await env.agree_as(after) == sorted(given)


FAULTS, METHODS = (LOST, CUT, DROPPED), ("POST", "PATCH", "DELETE")
PAIRS = product(FAULTS, METHODS) if "LASTMILE_EVERY_CASE" in os.environ else zip(FAULTS, METHODS, strict=True)


@pytest.mark.parametrize(("fault", "method"), [*PAIRS])
async def test_change_with_lost_requests_is_completed_by_a_retry(env: PoolModeEnv, fault: Fault, method: str) -> None:
    await env.start(DATABASE)
    held = sorted(await env.lines(BLOCK))
    for way in (DIRECT, BLOCKS, PREFIX, DIRECT):
        env.server.faults.next(fault, method=method, path=PREFIXES, times=3)
        for _ in range(20):
            try:
                await env.change(way)
                break
            except PoolModeError:  # NetBox may still execute a request: let an hour pass
                await env.owner.execute("UPDATE netbox_records SET due_at = now() WHERE due_at IS NOT NULL")
        env.server.faults.clear()
        for _ in range(5):
            await env.maintain()
        assert await env.agree_as(way) == held
