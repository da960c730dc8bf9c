"""Late requests in a full pool, after the order continued with the next pool."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ipam.modes import OnRelease
from lastmile.devstack.netbox import NetBoxServer
from tests.support.direct_env import PREFIXES, DirectEnv, refusal
from tests.support.held_requests import HeldRequest


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DirectEnv]:
    async with DirectEnv.serving(owner_url, owner, netbox_server) as env:
        await env.pool("2001:db8:4000::/55", "small", on_release=OnRelease.DELETE)
        await env.pool("2001:db8:5000::/40", "large", on_release=OnRelease.DELETE)
        yield env


async def test_prefix_created_late_in_the_former_pool_is_deleted(env: DirectEnv) -> None:
    late = HeldRequest(env.server, before_arrival=True)
    await env.begin()
    async with late.abandoned_by(env.netbox):
        await refusal(env.allocate())
    foreign = [
        await asyncio.to_thread(env.peer.create, PREFIXES, prefix=f"2001:db8:4000:{n}00::/56", vrf=env.vrf)
        for n in (0, 1)
    ]
    HeldRequest(env.server).resume()  # the request that NetBox refuses, since the pool is full
    other_vrf = HeldRequest(env.server, before_arrival=True)
    allocating = asyncio.create_task(env.allocate_with_retries())
    await other_vrf.reached()
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{foreign[0]['id']}/")
    await late.done()
    other_vrf.resume()
    assert await allocating == "2001:db8:5000::/56"
    await env.activate()
    await env.close()
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{foreign[1]['id']}/")
    assert await env.agree() == ["2001:db8:5000::/56"]


async def test_attempt_waiting_in_the_former_pool_keeps_the_new_prefix(env: DirectEnv) -> None:
    """The attempt then finds the key on the prefix that a later attempt got in another pool."""
    foreign = [
        await asyncio.to_thread(env.peer.create, PREFIXES, prefix=f"2001:db8:4000:{n}00::/56", vrf=env.vrf)
        for n in (0, 1)
    ]
    waiting = HeldRequest(env.server, before_arrival=True)
    await env.begin()
    stale = asyncio.create_task(env.allocate())
    await waiting.reached()
    assert await env.allocate_with_retries() == "2001:db8:5000::/56"
    waiting.resume()
    assert (await refusal(stale)).type == "StateChangedError"
    await env.activate()
    await env.close()
    for one in foreign:
        await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{one['id']}/")
    assert await env.agree() == ["2001:db8:5000::/56"]
