"""Allocations that meet: what one has not committed yet, the other neither takes nor gives up on too early."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from ipam.allocation import Allocation, allocate, release
from ipam.errors import PoolExhaustedError
from tests.support.allocation_desk import PD, QUARANTINE, Desk


class ClientDied(Exception):
    """Its transaction is rolled back."""


@asynccontextmanager
async def claiming(desk: Desk, ref: str) -> AsyncIterator[Allocation]:
    """An allocation whose transaction stays open for the block."""
    async with desk.database.tenant("acme") as connection:
        yield await allocate(connection, tenant="acme", subscriber_ref=ref, order_id="o1", need=PD)


async def blocked(desk: Desk) -> None:
    """Until a transaction waits for another one's lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while not await desk.owner.fetchval(waiting):
            pass


async def test_the_last_slot_goes_to_who_waited_where_its_claim_is_rolled_back(desk: Desk) -> None:
    await desk.pool("2001:db8:1::/56")
    await desk.give_back((await desk.allocate("S-0")).delegation)
    await desk.rest_is_over()
    with suppress(ClientDied):
        async with claiming(desk, "S-1"):
            second = asyncio.create_task(desk.allocate("S-2"))
            await blocked(desk)
            raise ClientDied
    assert str((await second).delegation.prefix) == "2001:db8:1::/56"


async def test_who_waited_is_told_exhausted_where_the_claim_is_committed(desk: Desk) -> None:
    await desk.pool("2001:db8:1::/56")
    await desk.give_back((await desk.allocate("S-0")).delegation)
    await desk.rest_is_over()
    async with claiming(desk, "S-1"):
        second = asyncio.create_task(desk.allocate("S-2"))
        await blocked(desk)
    with pytest.raises(PoolExhaustedError):
        await second


async def test_a_claim_that_grew_the_pool_and_died_leaves_it_to_the_next(desk: Desk) -> None:
    await desk.pool("2001:db8:1::/56")
    with suppress(ClientDied):
        async with claiming(desk, "S-1"):
            second = asyncio.create_task(desk.allocate("S-2"))
            await blocked(desk)
            raise ClientDied
    assert str((await second).delegation.prefix) == "2001:db8:1::/56"


async def test_an_attempt_that_waited_for_a_stranger_finds_what_its_own_key_has_meanwhile(desk: Desk) -> None:
    """Two slots: one is claimed with its own key, one by a stranger who dies after that has been committed."""
    await desk.pool("2001:db8:1::/55")
    for ref in ("S-8", "S-9"):
        await desk.allocate(ref)
    for ref in ("S-8", "S-9"):
        await desk.give_back((await desk.held_by(ref))[0])
    await desk.rest_is_over()
    with suppress(ClientDied):
        async with desk.database.tenant("acme") as stranger:
            async with claiming(desk, "S-1") as first:
                await allocate(stranger, tenant="acme", subscriber_ref="S-2", order_id="o1", need=PD)
                again = asyncio.create_task(desk.allocate("S-1"))
                await blocked(desk)
            await blocked(desk)
            raise ClientDied
    assert ((await again).delegation, (await again).created) == (first.delegation, False)


async def test_two_who_release_one_prefix_at_the_same_moment_are_both_content(desk: Desk) -> None:
    await desk.pool("2001:db8:1::/56")
    revoked = await desk.revoke((await desk.allocate("S-1")).delegation)
    async with desk.database.tenant("acme") as connection:
        await release(connection, revoked, QUARANTINE)
        second = asyncio.create_task(desk.release(revoked))
        await blocked(desk)
    await second
    await desk.rest_is_over()
    assert str((await desk.allocate("S-2")).delegation.prefix) == "2001:db8:1::/56"
