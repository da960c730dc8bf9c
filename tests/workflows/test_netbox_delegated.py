"""Whole orders with a delegated pool: only an order that needs a new block waits for NetBox."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from temporalio.worker import Worker

from ipam.modes import ReportingScope
from ipam.netbox import NetBox
from lastmile.client.orders import Lastmile
from lastmile.contract import ProvisionSubscriber, ResultStatus
from lastmile.contract.addressing import Addressing
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import SPACE, VRF
from tests.support.orders import Orders, outcomes, retrying, what_is_there

BLOCK = 4


@pytest.fixture
async def env(
    database: Database, owner: asyncpg.Connection, authorization: DynamicAuthorization
) -> AsyncIterator[DelegatedEnv]:
    with NetBoxServer() as server:
        async with NetBox(server.url, server.token) as netbox:
            env = DelegatedEnv(server, netbox, database, owner, authorization)
            await env.set_up()
            await env.pool(SPACE, "netbox", block_length=54, record=ReportingScope.PREFIX)
            yield env


@pytest.fixture
async def worker(
    client: object, settings: Settings, database: Database, authorization: DynamicAuthorization, env: DelegatedEnv
) -> AsyncIterator[Worker]:
    async with build_worker(client, settings, database, authorization, netbox=env.netbox) as worker:
        yield worker


def order(orders: Orders, order_id: str = "O-0", nth: int = 0) -> ProvisionSubscriber:
    return orders.provision(order_id, nth, addressing=Addressing(ipv6_pool="netbox", vrf=VRF))


async def full(lastmile: Lastmile, orders: Orders, env: DelegatedEnv) -> None:
    """Fill the only block of the pool, with NetBox stopped."""
    await env.maintain()
    env.server.stop()
    results = await asyncio.gather(*(lastmile.execute(order(orders, f"O-{n}", n)) for n in range(1, BLOCK + 1)))
    assert {result.status for result in results} == {ResultStatus.COMPLETED}, "the orders need no NetBox"
    assert {step.attempts for result in results for step in result.steps} == {1}


async def test_order_without_a_free_block_waits_and_names_the_reason(
    lastmile: Lastmile, orders: Orders, env: DelegatedEnv
) -> None:
    await full(lastmile, orders, env)
    run = await lastmile.start(order(orders))
    failure = await retrying(run, "allocate_ip_address")
    assert failure.application_failure_info.type == "NoBlockError"
    assert failure.message.startswith(
        f"no block of pool netbox ({SPACE}) has a free prefix, and no further one could be"
    )
    assert f"no NetBox answers at {env.server.url}: is it running, and is NETBOX_URL right?" in failure.message
    assert await env.owner.fetchval("SELECT count(*) FROM delegations WHERE subscriber_ref = $1", orders.ref) == 0

    env.server.start()
    result = await run.result()
    assert result.status is ResultStatus.COMPLETED
    assert outcomes(result)["allocate_ip_address"] == "done"
    held = await env.agree(whole_lines=True)
    assert len(held) == BLOCK + 1
    assert result.created.ipv6_prefix in held


async def test_order_waiting_for_a_block_can_be_cancelled(
    lastmile: Lastmile, orders: Orders, env: DelegatedEnv
) -> None:
    await full(lastmile, orders, env)
    before = await what_is_there(env.owner)
    run = await lastmile.start(order(orders))
    await retrying(run, "allocate_ip_address")
    await run.handle.cancel()
    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(env.owner) == before

    env.server.start()
    assert len(await env.agree(whole_lines=True)) == BLOCK
    assert (await lastmile.execute(order(orders, "O-9"))).status is ResultStatus.COMPLETED
    assert len(await env.agree(whole_lines=True)) == BLOCK + 1


async def test_orders_within_a_block_need_no_netbox(lastmile: Lastmile, orders: Orders, env: DelegatedEnv) -> None:
    await full(lastmile, orders, env)
    gone = Orders(f"{orders.ref}-1")
    assert (await lastmile.execute(gone.deprovision())).status is ResultStatus.COMPLETED
    assert (await lastmile.execute(order(gone, "O-again"))).status is ResultStatus.COMPLETED, "its last prefix"
    assert (await lastmile.execute(gone.deprovision("O-gone"))).status is ResultStatus.COMPLETED
    env.server.start()
    assert len(await env.agree(whole_lines=True)) == BLOCK - 1


async def test_order_from_a_pool_without_further_blocks_is_rolled_back(
    lastmile: Lastmile, orders: Orders, env: DelegatedEnv
) -> None:
    await env.pool("2001:db8:8000::/53", "small", block_length=54)
    sent = [
        orders.provision(f"O-{n}", n, addressing=Addressing(ipv6_pool="small", vrf=VRF))
        for n in range(1, 2 * BLOCK + 2)
    ]
    results = await asyncio.gather(*map(lastmile.execute, sent))
    assert [result.status for result in results].count(ResultStatus.COMPLETED) == 2 * BLOCK
    [refused] = [result for result in results if result.status is not ResultStatus.COMPLETED]
    assert refused.status is ResultStatus.ROLLED_BACK
    assert refused.reason == (
        "allocate_ip_address: Cannot allocate a /56 from pool small (2001:db8:8000::/53): no free prefix left. Add a "
        "pool with `lastmile pool add`, free space in NetBox, or wait until a released prefix leaves quarantine"
    )
    assert len(await env.agree(whole_lines=True)) == 2 * BLOCK
