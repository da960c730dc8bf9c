"""Allocations and releases through a NetBox that loses, cuts and restarts, by workers that are killed meanwhile.

`make test-every-way` plays more lines.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError

from ipam.modes import OnRelease, ReportingScope
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import CUT, LOST
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import DirectEnv
from tests.support.reconciliation import found
from tests.support.step_workers import StepWorkers, WorkerKilledError

LINES, KILL_EVERY = (1000, 40) if "LASTMILE_EVERY_CASE" in os.environ else (210, 8)
AT_ONCE = 16
WORKERS = 2
RESTARTS = (LINES // 3, 2 * LINES // 3)
READ_TIMEOUT = 5
SPARE_BLOCKS = 2
"""The blocks that a pool without holders keeps for the next lines."""


@dataclass(frozen=True)
class Way:
    """A mode of a pool in NetBox."""

    name: str
    env: type[DirectEnv]
    more: dict[str, Any]


WAYS = [
    Way("direct", DirectEnv, {}),
    Way("delegated, block", DelegatedEnv, {"record": ReportingScope.BLOCK}),
    Way("delegated, prefix", DelegatedEnv, {"record": ReportingScope.PREFIX}),
]


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, way: Way) -> AsyncIterator[DirectEnv]:
    with NetBoxServer(seed=5) as server:
        async with way.env.serving(owner_url, owner, server, read_timeout=READ_TIMEOUT, in_flight=AT_ONCE) as env:
            yield env


class Chaos:
    """Lines come and go; each step is insisted upon, and workers are killed whatever they are at."""

    def __init__(self, env: DirectEnv, workers: StepWorkers) -> None:
        self.env = env
        self.workers = workers
        self.held: dict[int, str] = {}
        """The prefixes that lines have in the end."""
        self.ended = 0
        self.lost = 0

    async def step(self, name: str, *arguments: Any, **more: Any) -> Any:
        """Repeat the step as Temporal does, also after a worker was killed."""
        while True:
            try:
                return await self.env.retry(lambda: self.workers.do(name, *arguments, **more))
            except WorkerKilledError:
                self.lost += 1

    async def line(self, number: int) -> None:
        """One line's life."""
        ref, order, pool = f"S-{number}", f"O-{number}", ("rests", "goes")[number % 2]
        await self.step("begin", ref, order)
        prefix: str = await self.step("allocate", ref, order, ipv6_pool=pool)
        fate = number % 3
        if fate == 0:
            await self.step("undo", ref, order)
            await self.step("close", ref, order, "rolled_back")
            return
        await self.step("activate", ref, order)
        await self.step("close", ref, order)
        if fate == 1:
            self.held[number] = prefix
        else:
            await self.gone(number)

    async def gone(self, number: int) -> None:
        """A line that has a prefix gives it back."""
        ref, order = f"S-{number}", f"D-{number}"
        await self.step("begin", ref, order, "deprovision")
        await self.step("revoke", ref, order)
        await self.step("release", ref, order)
        await self.step("close", ref, order)

    async def run(self) -> None:
        waiting = list(range(LINES))

        async def client() -> None:
            while waiting:
                await self.line(waiting.pop(0))
                self.ended += 1
                if self.ended % KILL_EVERY == 0:
                    self.workers.kill()
                    # A prefix in quarantine in a delegated pool may go to another line from now on.
                    await self.env.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now()")
                if self.ended in RESTARTS:
                    await asyncio.to_thread(self.env.server.restart)

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))


async def settled(env: DirectEnv) -> list[str]:
    """Return the held prefixes after all work has ended; the audit and reconciliation must find nothing."""
    # Pending removals search for records of killed attempts.
    await env.end_quarantines()
    held = await env.agree()
    assert await found(env, everything=True) == []
    return sorted(held)


@pytest.mark.timeout(600)  # two other processes use the cores meanwhile
async def test_chaos_with_netbox_leaves_no_duplicate_and_no_leak(env: DirectEnv, way: Way, owner_url: str) -> None:
    await env.pool("2001:db8:4000::/44", "rests", **way.more)
    await env.pool("2001:db8:5000::/44", "goes", on_release=OnRelease.DELETE, **way.more)
    env.server.faults.chance(LOST, 0.2)
    env.server.faults.chance(CUT, 0.2)
    place = (owner_url, env.server.url, env.server.token, READ_TIMEOUT)
    with StepWorkers.running(WORKERS, *place) as workers:
        chaos = Chaos(env, workers)
        await chaos.run()

    met = env.server.faults.met
    assert min(met[LOST], met[CUT], chaos.lost) > 5, "it was a quiet day"
    env.server.faults.clear()
    held = sorted(chaos.held.values())
    assert await settled(env) == held
    assert len(set(held)) == len(held) == LINES // 3

    with StepWorkers.running(WORKERS, *place) as chaos.workers:
        await asyncio.gather(*map(chaos.gone, chaos.held))
    assert await settled(env) == []
    assert env.records() == []
    if isinstance(env, DelegatedEnv):
        assert len(env.containers()) <= 2 * SPARE_BLOCKS


async def test_full_pool_assigns_every_prefix_once(env: DirectEnv, way: Way) -> None:
    """More ask at once than there is room for: each gets one prefix or is refused, and nothing is left over."""
    await env.pool("2001:db8:4000::/53", **way.more | ({"block_length": 54} if way.more else {}))
    env.server.faults.chance(LOST, 0.2)

    async def one(number: int) -> str | None:
        ref, order = f"S-{number}", f"O-{number}"
        await env.begin(ref, order)
        try:
            prefix: str = await env.allocate_with_retries(ref, order)
        except ApplicationError as failure:
            if failure.type != "PoolExhaustedError":
                raise
            await env.retry(lambda: env.undo(ref, order))
            await env.close(ref, order, "rolled_back")
            return None
        await env.retry(lambda: env.activate(ref, order))
        await env.close(ref, order)
        return prefix

    given = [prefix for prefix in await asyncio.gather(*map(one, range(12))) if prefix]
    env.server.faults.clear()
    assert await settled(env) == sorted(given)
    assert len(set(given)) == 8
