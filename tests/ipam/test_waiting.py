"""Allocations that meet: what one has not committed yet, the other neither takes nor gives up on too early."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from ipam.allocation import Allocation, allocate, release
from ipam.errors import PoolExhaustedError
from tests.support.allocation_env import PD, QUARANTINE, AllocationEnv


class ClientDied(Exception):
    """Its transaction is rolled back."""


@asynccontextmanager
async def claiming(env: AllocationEnv, ref: str) -> AsyncIterator[Allocation]:
    """An allocation whose transaction stays open for the block."""
    async with env.database.tenant("acme") as connection:
        yield await allocate(connection, tenant="acme", subscriber_ref=ref, order_id="o1", need=PD)


async def blocked(env: AllocationEnv) -> None:
    """Until a transaction waits for another one's lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while not await env.owner.fetchval(waiting):
            pass


async def test_waiting_allocation_gets_the_slot_of_a_rolled_back_claim(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/56")
    await env.revoke_and_release((await env.allocate("S-0")).delegation)
    await env.end_quarantines()
    with suppress(ClientDied):
        async with claiming(env, "S-1"):
            second = asyncio.create_task(env.allocate("S-2"))
            await blocked(env)
            raise ClientDied
    assert str((await second).delegation.prefix) == "2001:db8:1::/56"


async def test_waiting_allocation_is_refused_after_a_committed_claim(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/56")
    await env.revoke_and_release((await env.allocate("S-0")).delegation)
    await env.end_quarantines()
    async with claiming(env, "S-1"):
        second = asyncio.create_task(env.allocate("S-2"))
        await blocked(env)
    with pytest.raises(PoolExhaustedError):
        await second


async def test_rolled_back_growth_of_a_pool_is_repeated_by_the_next(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/56")
    with suppress(ClientDied):
        async with claiming(env, "S-1"):
            second = asyncio.create_task(env.allocate("S-2"))
            await blocked(env)
            raise ClientDied
    assert str((await second).delegation.prefix) == "2001:db8:1::/56"


async def test_waiting_attempt_finds_the_prefix_of_its_own_key(env: AllocationEnv) -> None:
    """The same key claims one of two slots. Another subscriber claims the other one and is rolled back."""
    await env.pool("2001:db8:1::/55")
    for ref in ("S-8", "S-9"):
        await env.allocate(ref)
    for ref in ("S-8", "S-9"):
        await env.revoke_and_release((await env.held_by(ref))[0])
    await env.end_quarantines()
    with suppress(ClientDied):
        async with env.database.tenant("acme") as other_session:
            async with claiming(env, "S-1") as first:
                await allocate(other_session, tenant="acme", subscriber_ref="S-2", order_id="o1", need=PD)
                again = asyncio.create_task(env.allocate("S-1"))
                await blocked(env)
            await blocked(env)
            raise ClientDied
    assert ((await again).delegation, (await again).created) == (first.delegation, False)


async def test_concurrent_releases_of_one_prefix_both_succeed(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/56")
    revoked = await env.revoke((await env.allocate("S-1")).delegation)
    async with env.database.tenant("acme") as connection:
        await release(connection, revoked, QUARANTINE)
        second = asyncio.create_task(env.release(revoked))
        await blocked(env)
    await second
    await env.end_quarantines()
    assert str((await env.allocate("S-2")).delegation.prefix) == "2001:db8:1::/56"
