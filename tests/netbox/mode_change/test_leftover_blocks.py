"""Blocks in a direct pool: those of a change in progress, and those that an interrupted change left over."""

from collections.abc import AsyncIterator
from ipaddress import IPv6Network

import asyncpg
import pytest
from temporalio.client import Client

from ipam.netbox.errors import ConnectionLostError
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import LOST
from tests.netbox.mode_change.test_conversion_races import prepare_conversion
from tests.support.direct_env import PREFIXES, SPACE, refusal
from tests.support.pool_mode_env import BLOCK, DIRECT, PREFIX, PoolModeEnv

BLOCK_LENGTH = 52


@pytest.fixture
async def env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer, temporal_client: Client
) -> AsyncIterator[PoolModeEnv]:
    async with PoolModeEnv.serving(owner_url, owner, netbox_server) as env, env.working(temporal_client):
        await env.start(DIRECT)
        await env.lines(3)
        yield env


async def fill_the_rest(env: PoolModeEnv) -> None:
    """Fill the pool with foreign prefixes, except for its first block."""
    start = IPv6Network(SPACE)
    for length in range(start.prefixlen + 1, BLOCK_LENGTH + 1):
        foreign = IPv6Network((int(start.network_address) + (1 << (128 - length)), length))
        await env.create_foreign_prefix(str(foreign))


async def pass_an_hour(env: PoolModeEnv) -> None:
    await env.owner.execute("UPDATE netbox_blocks SET since = since - interval '1 hour'")
    await env.owner.execute("UPDATE pools SET netbox_closed_until = NULL")


async def test_allocation_with_all_free_space_in_blocks_uses_the_blocks(env: PoolModeEnv) -> None:
    """NetBox assigns the free space in a block only when a request names the block."""
    await fill_the_rest(env)
    await prepare_conversion(env, DIRECT)
    await env.owner.execute("UPDATE pools SET netbox_closed_until = NULL")
    given = await env.lines(BLOCK - 3, start=50)
    assert len(set(given)) == BLOCK - 3
    await env.begin("S-99", "O-99")
    assert (await refusal(env.allocate("S-99", "O-99"))).type == "PoolExhaustedError"
    await env.undo("S-99", "O-99")
    await env.close("S-99", "O-99", "rolled_back")
    await env.change(PREFIX)
    assert set(given) < set(await env.owner.fetchval("SELECT array_agg(prefix::text) FROM delegations WHERE slot >= 0"))


async def test_blocks_of_an_interrupted_change_are_returned(env: PoolModeEnv) -> None:
    await fill_the_rest(env)
    await prepare_conversion(env, DIRECT)
    assert await env.maintain()
    assert len(env.containers()) == 1, "the same change may continue"
    await pass_an_hour(env)
    assert await env.maintain()
    assert env.containers() == []
    assert await env.owner.fetchval("SELECT count(*) FROM slots") == 0
    await env.begin("S-9", "O-9")
    assert await env.allocate("S-9", "O-9") == "2001:db8:4000:300::/56"


async def test_block_being_acquired_by_an_interrupted_change_is_returned(env: PoolModeEnv) -> None:
    env.server.faults.next(LOST, method="POST", path=PREFIXES)
    with pytest.raises(ConnectionLostError):
        await prepare_conversion(env, DIRECT)
    assert len(env.containers()) == 1
    await pass_an_hour(env)
    assert await env.maintain()
    assert env.containers() == []
    assert len(await env.agree_as(DIRECT)) == 3
