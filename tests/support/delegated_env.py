"""An ISP whose pool is delegated: as `Kept`, with blocks in NetBox, and its keeper by hand."""

import asyncio
from typing import Any

from ipam.netbox.binding import AllocationMode, Binding, BoundPool, OnRelease, ReportingScope
from ipam.netbox.delegated.block_maintenance import BlockMaintenance
from ipam.netbox.delegated.blocks import (
    MAINTENANCE_LOCK,
    MAINTENANCE_SECONDS,
    Block,
    BlockState,
    blocks_of,
    delegated_pools,
)
from ipam.netbox.records import KEY, SIZE, STATE, STATUS, SUBSCRIBER, USED
from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.audit.invariants import INVARIANTS
from lastmile.contract.addressing import Purpose
from lastmile.db.advisory_lock import exclusive
from tests.support.direct_env import PREFIXES, VRF, DirectEnv
from tests.support.steps import QUARANTINE

__all__ = ["DelegatedEnv"]


class DelegatedEnv(DirectEnv):
    """Its pools have blocks of 16 prefixes, unless a test says otherwise."""

    async def bind(
        self,
        prefix: str,
        prefix_id: int,
        name: str = "home",
        *,
        on_release: OnRelease = OnRelease.DEPRECATE,
        tenant: str | None = "acme",
        record: ReportingScope = ReportingScope.BLOCK,
        block_length: int | None = 52,
        **more: Any,
    ) -> None:
        described = {"name": name, "prefix": prefix, "tenant": tenant, "vrf": VRF, "delegated_length": 56, **more}
        place = Binding(
            mode=AllocationMode.DELEGATED,
            prefix_id=prefix_id,
            vrf_id=self.vrf,
            on_release=on_release,
            record=record,
            block_length=block_length,
        )
        async with self.database.platform() as platform:
            await add_pool(platform, Pool.model_validate({"purpose": Purpose.IPV6_PD, **described, "netbox": place}))

    async def bound_pool(self, name: str = "home") -> BoundPool:
        async with self.database.platform() as platform:
            return next(pool for pool in await delegated_pools(platform) if pool.name == name)

    async def blocks(self) -> list[Block]:
        """Those of all pools."""
        async with self.database.platform() as platform:
            return [block for pool in await delegated_pools(platform) for block in await blocks_of(platform, pool)]

    def containers(self) -> list[dict[str, Any]]:
        """The blocks in NetBox, oldest first."""
        with self.server.store.lock:
            found = [one for one in self.server.store.all("ipam.prefix") if one["custom_fields"].get(SIZE)]
        return sorted(found, key=lambda one: int(one["id"]))

    async def maintain(self) -> bool:
        """What a keeper does that has just started, however many beats that takes; whether all of it succeeded."""
        maintenance = BlockMaintenance(self.database, self.netbox, QUARANTINE.unconfirmed)
        fine = await maintenance.run_once()
        while not maintenance.pause:  # it had more to tell than time for it
            fine &= await maintenance.run_once()
        return fine

    async def wait_for_other_maintenance(self) -> None:
        """Until nobody else keeps the pools: PostgreSQL takes a moment to see that who was killed has gone."""
        async with exclusive(self.database, MAINTENANCE_LOCK, patience=MAINTENANCE_SECONDS) as ours:
            assert ours

    async def expire_waits(self) -> None:
        """What waits may be tried again, and who was killed has no claim any more."""
        await self.owner.execute(
            "UPDATE netbox_records SET due_at = now(), claimed_until = NULL WHERE due_at IS NOT NULL"
        )

    async def report_all(self) -> None:
        """Keepers at work, until NetBox has been told of all."""
        while await self.owner.fetchval("SELECT count(*) FROM netbox_records WHERE since IS NOT NULL"):
            await self.expire_waits()
            await self.maintain()

    async def end_quarantines(self) -> None:
        """As `Kept`, and blocks that nobody needs have been returned."""
        await self.wait_for_other_maintenance()
        await self.report_all()
        await self.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now() AND free_at < 'infinity'")
        await self.owner.execute("UPDATE netbox_blocks SET since = since - interval '1 hour'")
        await self.expire_waits()
        await self.maintain()

    async def agree_after_maintenance(self) -> list[str]:
        """As `agree`, after as many keepers as it takes."""
        for _ in range(10):
            if await self.maintain():
                break
        return await self.agree()

    async def agree(self, *, whole_lines: bool = False) -> list[str]:
        """Raise unless NetBox has just our blocks, as full as they are, and the audit finds nothing; what is held."""
        for _ in range(3):
            if await self.maintain():
                break
        # Where NetBox has no further block, one is waited for.
        blocks = {block.key: block for block in await self.blocks() if block.state is not BlockState.ACQUIRING}
        assert {block.state for block in blocks.values()} <= {BlockState.OPEN}
        there = self.containers()
        assert sorted(one["custom_fields"][KEY] for one in there) == sorted(blocks)
        for one in there:
            block = blocks[one["custom_fields"][KEY]]
            assert (one["prefix"], one["id"], one["vrf"]) == (str(block.prefix), block.netbox_id, self.vrf)
            assert (one["status"], one["custom_fields"][USED]) == ("container", block.used)
        held = await self.owner.fetch("SELECT prefix::text FROM delegations WHERE released_at IS NULL ORDER BY id")
        outside = await self.owner.fetchval(
            """
            SELECT count(*) FROM delegations d WHERE released_at IS NULL AND NOT EXISTS (
                SELECT FROM netbox_blocks b WHERE b.pool_id = d.pool_id AND d.prefix << b.prefix)
            """
        )
        assert outside == 0, "assigned outside of all blocks"
        await self._records_agree()
        checked = [invariant for invariant in INVARIANTS if whole_lines or invariant.name != "incomplete"]
        found = check(self.database, invariants=checked)
        assert [f"{one.invariant.name}: {one.subject} {one.words}" async for one in found] == []
        return [row[0] for row in held]

    async def _records_agree(self) -> None:
        """NetBox has just the prefixes that are held, or rest, in pools where it is told of each, as they are."""
        behind = await self.owner.fetch("SELECT * FROM netbox_records WHERE since IS NOT NULL OR due_at <= now()")
        assert behind == []
        told = await self.owner.fetch(
            """
            SELECT d.*, d.prefix::text AS written
            FROM delegations d JOIN pools p ON p.id = d.pool_id LEFT JOIN slots s ON s.pool_id = d.pool_id
            AND s.slot = d.slot AND s.delegation_id IS NULL AND s.free_at > now() AND s.free_at < 'infinity'
            WHERE p.netbox_record = 'prefix' AND (d.released_at IS NULL OR s.slot IS NOT NULL
                AND p.netbox_release = 'deprecate' AND d.id = (
                    SELECT max(id) FROM delegations l WHERE l.pool_id = d.pool_id AND l.slot = d.slot))
            """
        )
        with self.server.store.lock:
            there = [one for one in self.server.store.all("ipam.prefix") if one["custom_fields"].get(STATE)]
        assert sorted(one["prefix"] for one in there) == sorted(one["written"] for one in told)
        by_prefix = {one["prefix"]: one for one in there}
        for one in told:
            record = by_prefix[one["written"]]
            fields = record["custom_fields"]
            assert (fields[KEY], fields[SUBSCRIBER], fields[STATE]) == (
                one["allocation_key"],
                one["subscriber_ref"],
                one["state"],
            )
            assert (record["status"], record["vrf"]) == (STATUS[one["state"]], self.vrf)

    async def lines(self, number: int, *, start: int = 1) -> list[str]:
        """So many lines that have their prefix, all at once."""

        async def one(n: int) -> str:
            await self.begin(f"S-{n}", f"O-{n}")
            prefix = await self.allocate_with_retries(f"S-{n}", f"O-{n}")
            await self.finish(f"S-{n}", f"O-{n}")
            return prefix

        return list(await asyncio.gather(*(one(n) for n in range(start, start + number))))

    async def finish(self, ref: str = "S-1", order: str = "O-1") -> None:
        """The rest of an order whose prefix is there."""
        await self.activate(ref, order)
        await self.close(ref, order)

    async def create_foreign_prefix(self, prefix: str) -> int:
        """A person takes a prefix in NetBox; its id."""
        made = await asyncio.to_thread(self.peer.create, PREFIXES, prefix=prefix, vrf=self.vrf, description="by hand")
        return int(made["id"])

    async def delete_in_netbox(self, id: int) -> None:
        reply = await asyncio.to_thread(self.peer.send, "DELETE", f"{PREFIXES}{id}/")
        assert reply.status_code == 204
