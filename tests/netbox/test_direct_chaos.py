"""Allocations and releases through a NetBox that loses, cuts and restarts, by workers that are killed meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError

from devstack.netbox import NetBoxServer
from devstack.netbox.faults import CUT, LOST
from ipam.binding import OnRelease
from tests.netbox.kept import Kept

LINES = 150
AT_ONCE = 8
RESTARTS = (LINES // 3, 2 * LINES // 3)


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection) -> AsyncIterator[Kept]:
    with NetBoxServer(seed=5) as server:
        async with Kept.serving(owner_url, owner, server, read_timeout=2, in_flight=AT_ONCE) as kept:
            yield kept


class Chaos:
    """Lines come and go; each step is insisted upon, and some attempts are killed wherever they are."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.random = random.Random(5)
        self.ended = 0
        self.killed = 0

    async def step(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """As Temporal does it: again and again, with attempts that never report back."""
        while self.random.random() < 0.15:
            task = asyncio.ensure_future(attempt())
            done, _ = await asyncio.wait([task], timeout=self.random.uniform(0, 0.05))
            if done and not task.exception():
                break
            self.killed += task.cancel()
            await asyncio.wait([task])
        return await self.kept.insist(attempt)

    async def line(self, number: int) -> str | None:
        """One line's life; the prefix that it has in the end."""
        ref, order, pool = f"S-{number}", f"O-{number}", ("rests", "goes")[number % 2]
        kept = self.kept
        await kept.begin(ref, order)
        prefix: str = await self.step(lambda: kept.allocate(ref, order, ipv6_pool=pool))
        fate = number % 3
        if fate == 0:
            await self.step(lambda: kept.undo(ref, order))
            await kept.close(ref, order, "rolled_back")
            return None
        await self.step(lambda: kept.activate(ref, order))
        await kept.close(ref, order)
        if fate == 1:
            return prefix
        await kept.begin(ref, f"D-{number}", "deprovision")
        gone = kept.ref(ref, f"D-{number}")
        await self.step(lambda: kept.run(kept.addresses.revoke_ipv6_lifecycle, gone))
        await self.step(lambda: kept.run(kept.addresses.release_ip_address, gone))
        await kept.close(ref, f"D-{number}")
        return None

    async def run(self) -> list[str]:
        waiting = list(range(LINES))
        held: list[str] = []

        async def client() -> None:
            while waiting:
                if (prefix := await self.line(waiting.pop(0))) is not None:
                    held.append(prefix)
                self.ended += 1
                if self.ended in RESTARTS:
                    await asyncio.to_thread(self.kept.server.restart)

        async with asyncio.TaskGroup() as clients:
            for _ in range(AT_ONCE):
                clients.create_task(client())
        return held


@pytest.mark.timeout(400)
async def test_nothing_double_and_nothing_leaked(kept: Kept) -> None:
    await kept.pool("2001:db8:4000::/48", "rests")
    await kept.pool("2001:db8:5000::/48", "goes", on_release=OnRelease.DELETE)
    kept.server.faults.chance(LOST, 0.2)
    kept.server.faults.chance(CUT, 0.05)
    chaos = Chaos(kept)

    held = await chaos.run()

    met = kept.server.faults.met
    assert min(met[LOST], met[CUT], chaos.killed) > 10, "it was a quiet day"
    kept.server.faults.clear()
    # What an attempt that was killed had left in NetBox is looked for once more.
    await kept.everything_is_due()
    assert sorted(await kept.agree()) == sorted(held)
    assert len(set(held)) == len(held) == LINES // 3
    assert len(kept.records()) == len(held)


async def test_a_full_pool_is_shared_fairly(kept: Kept) -> None:
    """More ask at once than there is room for: each gets one prefix or is refused, and nothing is left over."""
    await kept.pool("2001:db8:4000::/53")
    kept.server.faults.chance(LOST, 0.2)

    async def one(number: int) -> str | None:
        ref, order = f"S-{number}", f"O-{number}"
        await kept.begin(ref, order)
        try:
            prefix: str = await kept.allocate_in_the_end(ref, order)
        except ApplicationError as failure:
            if failure.type != "PoolExhausted":
                raise
            await kept.insist(lambda: kept.undo(ref, order))
            await kept.close(ref, order, "rolled_back")
            return None
        await kept.insist(lambda: kept.activate(ref, order))
        await kept.close(ref, order)
        return prefix

    given = [prefix for prefix in await asyncio.gather(*map(one, range(12))) if prefix]
    kept.server.faults.clear()
    assert sorted(await kept.agree()) == sorted(given)
    assert len(set(given)) == 8
