"""An environment for delegated pools: as `DirectEnv`, with blocks in NetBox, and block maintenance on demand."""

import asyncio
from typing import Any

from ipam.modes import AllocationMode, OnRelease, ReportingScope
from ipam.netbox.binding import BoundPool
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
    """An environment whose pools have blocks of 16 prefixes by default."""

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
        place = {
            "mode": AllocationMode.DELEGATED,
            "prefix_id": prefix_id,
            "vrf_id": self.vrf,
            "on_release": on_release,
            "record": record,
            "block_length": block_length,
        }
        async with self.database.platform() as platform:
            await add_pool(platform, Pool.model_validate({"purpose": Purpose.IPV6_PD, **described, "netbox": place}))

    async def bound_pool(self, name: str = "home") -> BoundPool:
        async with self.database.platform() as platform:
            return next(pool for pool in await delegated_pools(platform) if pool.name == name)

    async def blocks(self) -> list[Block]:
        """Return the blocks of all pools."""
        async with self.database.platform() as platform:
            return [block for pool in await delegated_pools(platform) for block in await blocks_of(platform, pool)]

    def containers(self) -> list[dict[str, Any]]:
        """Return the blocks in NetBox, oldest first."""
        with self.server.store.lock:
            found = [one for one in self.server.store.all("ipam.prefix") if one["custom_fields"].get(SIZE)]
        return sorted(found, key=lambda one: int(one["id"]))

    async def maintain(self) -> bool:
        """Run block maintenance until nothing more is due; return whether all of it succeeded."""
        maintenance = BlockMaintenance(self.database, self.netbox, QUARANTINE.unconfirmed)
        fine = await maintenance.run_once()
        while not maintenance.pause:  # more was due than the run had time for
            fine &= await maintenance.run_once()
        return fine

    async def wait_for_other_maintenance(self) -> None:
        """Wait for the lock of block maintenance: PostgreSQL notices the end of a killed worker with a delay."""
        async with exclusive(self.database, MAINTENANCE_LOCK, patience=MAINTENANCE_SECONDS) as ours:
            assert ours

    async def expire_waits(self) -> None:
        """Let waiting reports be due, and claims expire."""
        await self.owner.execute(
            "UPDATE netbox_records SET due_at = now(), claimed_until = NULL WHERE due_at IS NOT NULL"
        )

    async def report_all(self) -> None:
        """Run block maintenance until every prefix is reported."""
        while await self.owner.fetchval("SELECT count(*) FROM netbox_records WHERE since IS NOT NULL"):
            await self.expire_waits()
            await self.maintain()

    async def end_quarantines(self) -> None:
        """End the quarantines, and let maintenance return spare blocks."""
        await self.wait_for_other_maintenance()
        await self.report_all()
        await self.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now() AND free_at < 'infinity'")
        await self.owner.execute("UPDATE netbox_blocks SET since = since - interval '1 hour'")
        await self.expire_waits()
        await self.maintain()

    async def agree_after_maintenance(self) -> list[str]:
        """Run maintenance until it succeeds, and then `agree`."""
        for _ in range(10):
            if await self.maintain():
                break
        return await self.agree()

    async def agree(self, *, whole_lines: bool = False) -> list[str]:
        """Return the held prefixes. Raise unless NetBox shows the blocks with their use and the audit is clean."""
        for _ in range(3):
            if await self.maintain():
                break
        # A pool for which NetBox has no further block keeps one that is being acquired.
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
        """Check that NetBox records exactly the held prefixes and quarantines of pools that record each prefix."""
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
        """Provision `number` subscribers at once; return their prefixes."""

        async def one(n: int) -> str:
            await self.begin(f"S-{n}", f"O-{n}")
            prefix = await self.allocate_with_retries(f"S-{n}", f"O-{n}")
            await self.finish(f"S-{n}", f"O-{n}")
            return prefix

        return list(await asyncio.gather(*(one(n) for n in range(start, start + number))))

    async def finish(self, ref: str = "S-1", order: str = "O-1") -> None:
        """Activate the prefix, and close the order."""
        await self.activate(ref, order)
        await self.close(ref, order)

    async def create_foreign_prefix(self, prefix: str) -> int:
        """Create a foreign prefix in NetBox; return its id."""
        made = await asyncio.to_thread(self.peer.create, PREFIXES, prefix=prefix, vrf=self.vrf, description="by hand")
        return int(made["id"])

    async def delete_in_netbox(self, id: int) -> None:
        reply = await asyncio.to_thread(self.peer.send, "DELETE", f"{PREFIXES}{id}/")
        assert reply.status_code == 204
