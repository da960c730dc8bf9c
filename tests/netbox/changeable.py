"""A pool in NetBox whose mode is changed, and what then holds of it."""

import asyncio
from datetime import timedelta

from ipam.models import Purpose
from ipam.netbox.binding import AllocationMode, Binding, OnRelease, ReportingScope
from ipam.netbox.mode_change.controller import change
from ipam.netbox.reconcile.run import differences
from ipam.pools import Pool, add_pool, list_pools
from lastmile.audit.audit import check
from tests.support.delegated_env import Delegated
from tests.support.direct_env import PREFIXES, SPACE, VRF, Kept

REST = timedelta(days=7)
BLOCK = 16

DATABASE = None
DIRECT = (AllocationMode.DIRECT, None)
BLOCKS = (AllocationMode.DELEGATED, ReportingScope.BLOCK)
PREFIX = (AllocationMode.DELEGATED, ReportingScope.PREFIX)
Way = tuple[AllocationMode, ReportingScope | None]


HELD = "SELECT prefix::text FROM delegations WHERE released_at IS NULL"


class Changeable(Delegated):
    """As `Delegated`; its pool starts in any mode."""

    prefix_id = 0
    block_length = 52

    async def start(self, way: Way | None, on_release: OnRelease = OnRelease.DEPRECATE) -> None:
        # A pool of the database has thousands of slots at hand, each of which gets into a block.
        self.block_length = 52 if way else 46
        made = await asyncio.to_thread(
            self.peer.create, PREFIXES, prefix=SPACE, vrf=self.vrf, status="container", description="home"
        )
        self.prefix_id = made["id"]
        described = {"name": "home", "prefix": SPACE, "tenant": "acme", "vrf": VRF, "delegated_length": 56}
        described |= {"purpose": Purpose.IPV6_PD, "netbox": way and self.place(way, on_release)}
        async with self.database.platform() as platform:
            await add_pool(platform, Pool.model_validate(described))

    def place(self, way: Way, on_release: OnRelease = OnRelease.DEPRECATE, length: int | None = None) -> Binding:
        mode, record = way
        return Binding(
            mode=mode,
            prefix_id=self.prefix_id,
            vrf_id=self.vrf,
            on_release=on_release,
            record=record,
            block_length=(length or self.block_length) if mode is AllocationMode.DELEGATED else None,
        )

    async def change(self, way: Way, on_release: OnRelease = OnRelease.DEPRECATE, length: int | None = None) -> None:
        async with self.database.platform() as platform:
            [pool] = [use.pool for use in await list_pools(platform)]
        await change(self.database, self.netbox, pool, self.place(way, on_release, length), rest=REST)

    async def agree_as(self, way: Way | None) -> list[str]:
        """Raise unless NetBox, the database, the audit and the reconciliation say the same, as the mode has it; what is
        held."""
        if way not in (None, DIRECT):
            assert await self.beat()
        found = differences(self.database, self.netbox, everything=True)
        assert [str(one) async for one in found] == []
        if way == DIRECT:
            assert self.containers() == [], "its blocks are given back"
            return sorted(await Kept.agree(self))
        if way is None:
            assert (self.containers(), self.records()) == ([], [])
            assert [one async for one in check(self.database)] == []
            return sorted(row[0] for row in await self.owner.fetch(HELD))
        return sorted(await self.agree())


async def resting(kept: Changeable) -> set[str]:
    """What nobody can have now, and nobody holds."""
    rows = await kept.owner.fetch(
        """
        SELECT lastmile_nth_prefix(p.prefix, 56, slot)::text FROM slots JOIN pools p ON p.id = pool_id
        WHERE delegation_id IS NULL AND free_at > now() AND free_at < 'infinity'
        UNION SELECT prefix::text FROM netbox_removals WHERE prefix IS NOT NULL
        """
    )
    return {row[0] for row in rows}
