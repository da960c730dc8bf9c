"""A pool in NetBox whose mode a test changes, with checks of the result."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client

from ipam.modes import AllocationMode, DatabaseMode, DelegatedMode, DirectMode, OnRelease, PoolMode, ReportingScope
from ipam.netbox.mode_change.plan import pool_id
from ipam.netbox.reconcile.run import differences
from ipam.pools import Pool, add_pool, list_pools
from lastmile.audit.audit import check
from lastmile.client.pool_modes import PoolModeRun, change_pool_mode
from lastmile.contract.addressing import Purpose
from lastmile.contract.pool_modes import PoolModeChange
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import PREFIXES, SPACE, VRF, DirectEnv

BLOCK = 16

DATABASE = (AllocationMode.DATABASE, None)
DIRECT = (AllocationMode.DIRECT, None)
BLOCKS = (AllocationMode.DELEGATED, ReportingScope.BLOCK)
PREFIX = (AllocationMode.DELEGATED, ReportingScope.PREFIX)
Way = tuple[AllocationMode, ReportingScope | None]


HELD = "SELECT prefix::text FROM delegations WHERE released_at IS NULL"


class PoolModeEnv(DelegatedEnv):
    """A `DelegatedEnv` whose pool starts in any mode."""

    prefix_id = 0
    block_length = 52
    client: Client
    task_queue: str

    @asynccontextmanager
    async def working(self, client: Client) -> AsyncIterator[None]:
        """Run a worker, on a task queue of its own."""
        self.client, self.task_queue = client, f"pool-mode-{uuid.uuid4().hex}"
        async with self.worker():
            yield

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Run one more worker on that task queue."""
        settings = Settings(task_queue=self.task_queue, shutdown_grace_seconds=1)
        async with build_worker(self.client, settings, self.database, self._authorization, netbox=self.netbox):
            yield

    async def start(self, way: Way, on_release: OnRelease = OnRelease.DEPRECATE) -> None:
        # A pool in the database has thousands of slots within reach, and each must be in a block.
        self.block_length = 46 if way == DATABASE else 52
        made = await asyncio.to_thread(
            self.peer.create, PREFIXES, prefix=SPACE, vrf=self.vrf, status="container", description="home"
        )
        self.prefix_id = made["id"]
        described = {"name": "home", "prefix": SPACE, "tenant": "acme", "vrf": VRF, "delegated_length": 56}
        described |= {"purpose": Purpose.IPV6_PD, "netbox": self.place(way, on_release)}
        async with self.database.platform() as platform:
            await add_pool(platform, Pool.model_validate(described))

    def place(self, way: Way, on_release: OnRelease = OnRelease.DEPRECATE, length: int | None = None) -> PoolMode:
        mode, record = way
        there = {"prefix_id": self.prefix_id, "vrf_id": self.vrf, "on_release": on_release}
        blocks = {"record": record, "block_length": length or self.block_length}
        match mode:
            case AllocationMode.DATABASE:
                return DatabaseMode()
            case AllocationMode.DIRECT:
                return DirectMode.model_validate(there)
            case AllocationMode.DELEGATED:
                return DelegatedMode.model_validate(there | blocks)

    async def pass_an_hour(self) -> None:
        """Let an hour pass: maintenance then returns the blocks that a change left over."""
        await self.owner.execute("UPDATE netbox_blocks SET since = since - interval '1 hour'")
        assert await self.maintain()

    async def home_pool(self) -> Pool:
        """Return the pool as an operator's command reads it."""
        async with self.database.platform() as platform:
            return next(use.pool for use in await list_pools(platform) if use.pool.name == "home")

    async def request(self, pool: Pool, mode: PoolMode) -> PoolModeRun:
        """Start the change of a pool that was read as this, or attach to it."""
        async with self.database.platform() as platform:
            id_ = await pool_id(platform, pool)
        change = PoolModeChange(
            pool_id=id_,
            pool=pool.name,
            before=pool.netbox.model_dump(mode="json"),
            requested=mode.model_dump(mode="json"),
            requested_by="ada",
        )
        return await change_pool_mode(self.client, self.task_queue, change)

    async def change(self, way: Way, on_release: OnRelease = OnRelease.DEPRECATE, length: int | None = None) -> None:
        """Change the pool and wait for the end. Raises `PoolModeError`."""
        run = await self.request(await self.home_pool(), self.place(way, on_release, length))
        await run.result()

    async def agree_as(self, way: Way) -> list[str]:
        """Return the held prefixes. Raise unless NetBox, the database, the audit and the reconciliation agree in this
        mode."""
        if way not in (DATABASE, DIRECT):
            assert await self.maintain()
        found = differences(self.database, self.netbox, everything=True)
        assert [str(one) async for one in found] == []
        if way == DIRECT:
            assert self.containers() == [], "the blocks are returned"
            return sorted(await DirectEnv.agree(self))
        if way == DATABASE:
            assert (self.containers(), self.records()) == ([], [])
            assert [one async for one in check(self.database)] == []
            return sorted(row[0] for row in await self.owner.fetch(HELD))
        return sorted(await self.agree())


async def resting(env: PoolModeEnv) -> set[str]:
    """Return the prefixes in quarantine."""
    rows = await env.owner.fetch(
        """
        SELECT lastmile_nth_prefix(p.prefix, 56, slot)::text FROM slots JOIN pools p ON p.id = pool_id
        WHERE delegation_id IS NULL AND free_at > now() AND free_at < 'infinity'
        UNION SELECT prefix::text FROM netbox_removals WHERE prefix IS NOT NULL
        """
    )
    return {row[0] for row in rows}
