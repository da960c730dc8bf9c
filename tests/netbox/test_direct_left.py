"""What NetBox does late in a pool that an order has left, since it was full."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ipam.netbox.binding import OnRelease
from lastmile.devstack.netbox import NetBoxServer
from tests.support.direct_env import PREFIXES, Kept, refusal
from tests.support.held_requests import Held


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Kept]:
    async with Kept.serving(owner_url, owner, standin) as kept:
        await kept.pool("2001:db8:4000::/55", "small", on_release=OnRelease.DELETE)
        await kept.pool("2001:db8:5000::/40", "large", on_release=OnRelease.DELETE)
        yield kept


async def test_a_prefix_that_comes_late_in_the_pool_that_was_left(kept: Kept) -> None:
    late = Held(kept.server, on_its_way=True)
    await kept.begin()
    async with late.given_up(kept.netbox):
        await refusal(kept.allocate())
    theirs = [
        await asyncio.to_thread(kept.peer.create, PREFIXES, prefix=f"2001:db8:4000:{n}00::/56", vrf=kept.vrf)
        for n in (0, 1)
    ]
    Held(kept.server).go_on()  # the one that is told that there is no room
    elsewhere = Held(kept.server, on_its_way=True)
    allocating = asyncio.create_task(kept.allocate_in_the_end())
    await elsewhere.reached()
    await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{theirs[0]['id']}/")
    await late.done()
    elsewhere.go_on()
    assert await allocating == "2001:db8:5000::/56"
    await kept.activate()
    await kept.close()
    await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{theirs[1]['id']}/")
    assert await kept.agree() == ["2001:db8:5000::/56"]


async def test_an_attempt_that_still_waits_in_the_pool_that_was_left(kept: Kept) -> None:
    """What it finds under the order's key then is what a later attempt has got elsewhere: the subscriber's."""
    theirs = [
        await asyncio.to_thread(kept.peer.create, PREFIXES, prefix=f"2001:db8:4000:{n}00::/56", vrf=kept.vrf)
        for n in (0, 1)
    ]
    waiting = Held(kept.server, on_its_way=True)
    await kept.begin()
    stale = asyncio.create_task(kept.allocate())
    await waiting.reached()
    assert await kept.allocate_in_the_end() == "2001:db8:5000::/56"
    waiting.go_on()
    assert (await refusal(stale)).type == "StateChangedError"
    await kept.activate()
    await kept.close()
    for one in theirs:
        await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{one['id']}/")
    assert await kept.agree() == ["2001:db8:5000::/56"]
