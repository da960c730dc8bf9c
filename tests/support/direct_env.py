"""An environment for direct pools: the steps of orders, a real PostgreSQL, the stand-in, and a check of agreement."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError

from activities.messages import StepReport
from ipam.modes import DirectMode, OnRelease
from ipam.netbox import NetBox
from ipam.netbox.direct.pending_removals import remove_due
from ipam.netbox.records import KEY, STATE, STATUS, SUBSCRIBER
from ipam.netbox.requirements import check as requirements
from ipam.netbox.requirements import set_up
from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.audit.invariants import INVARIANTS
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.subscribers.tenants import add_tenant
from tests.support.netbox_peer import Peer
from tests.support.steps import VRF, Steps

__all__ = ["AVAILABLE", "KEY_1", "PREFIXES", "SPACE", "TENANTS", "VRF", "DirectEnv", "refusal", "until_recorded"]

PREFIXES = "/api/ipam/prefixes/"
AVAILABLE = "available-prefixes"
TENANTS = {"acme": "Acme Broadband", "other": "Other Networks"}
SPACE = "2001:db8:4000::/40"
KEY_1 = "acme/S-1/ipv6_pd/O-1"
"""The allocation key of subscriber S-1 in order O-1."""


async def refusal(attempt: Any) -> ApplicationError:
    """Return the failure of the attempt."""
    with pytest.raises(ApplicationError) as failure:
        await attempt
    return failure.value


class DirectEnv(Steps):
    """Orders of tenant `acme` for one prefix each. `owner` bypasses row-level security."""

    def __init__(
        self,
        server: NetBoxServer,
        netbox: NetBox,
        database: Database,
        owner: asyncpg.Connection,
        authorization: DynamicAuthorization,
    ) -> None:
        super().__init__(database, authorization, netbox)
        self.server = server
        self.peer = Peer(server.url, server.token)
        self.netbox = netbox
        self.owner = owner
        self.vrf = 0
        """The id of the pools' VRF in NetBox."""

    @classmethod
    @asynccontextmanager
    async def serving(
        cls,
        owner_url: str,
        owner: asyncpg.Connection,
        server: NetBoxServer,
        *,
        read_timeout: float = 60,
        in_flight: int = 4,
    ) -> AsyncIterator[Self]:
        """Set up the environment on the test's own database, with a NetBox client of this time-out and concurrency.

        The client gives up no request by itself: use `tests.support.held_requests`.
        """
        database = Database(owner_url)
        try:
            async with (
                NetBox(server.url, server.token, read_timeout=read_timeout, in_flight=in_flight) as netbox,
                DynamicAuthorization(timeout=0.1, tries=1, in_flight=1) as authorization,
            ):
                env = cls(server, netbox, database, owner, authorization)
                await env.set_up()
                yield env
        finally:
            await database.close()

    async def set_up(self) -> None:
        """Create the tenants on both sides, and what Lastmile requires in NetBox."""
        async with self.database.platform() as platform:
            for tenant, name in TENANTS.items():
                await add_tenant(platform, tenant, name)
        await set_up(self.netbox.wire, await requirements(self.netbox.wire, tenants=TENANTS))
        self.vrf = (await asyncio.to_thread(self.peer.create, "/api/ipam/vrfs/", name=VRF))["id"]

    async def pool(
        self,
        prefix: str = SPACE,
        name: str = "home",
        *,
        on_release: OnRelease = OnRelease.DEPRECATE,
        tenant: str | None = "acme",
        **more: Any,
    ) -> int:
        """Add a pool and its prefix in NetBox; return the id of that prefix."""
        made = await asyncio.to_thread(
            self.peer.create, PREFIXES, prefix=prefix, vrf=self.vrf, status="container", description=name
        )
        await self.bind(prefix, made["id"], name, on_release=on_release, tenant=tenant, **more)
        return int(made["id"])

    async def bind(
        self, prefix: str, prefix_id: int, name: str = "home", *, on_release: OnRelease, tenant: str | None, **more: Any
    ) -> None:
        described = {"name": name, "prefix": prefix, "tenant": tenant, "vrf": VRF, "delegated_length": 56, **more}
        place = DirectMode(prefix_id=prefix_id, vrf_id=self.vrf, on_release=on_release)
        async with self.database.platform() as platform:
            await add_pool(platform, Pool.model_validate({"purpose": Purpose.IPV6_PD, **described, "netbox": place}))

    def change_token(self, **change: Any) -> None:
        """Change Lastmile's token, as an administrator of NetBox does."""
        with self.server.store.transaction():
            [token, *_] = self.server.store.all("users.token")
            self.server.store.replace("users.token", {**token, **change})

    # Orders

    async def allocate_with_retries(self, ref: str = "S-1", order: str = "O-1") -> str:
        """Attempt the allocation until it succeeds, or fails with an error that no retry fixes."""
        return str(await self.retry(lambda: self.allocate(ref, order)))

    async def retry(self, attempt: Any, most: int = 60) -> Any:
        for _ in range(most):
            try:
                return await attempt()
            except ApplicationError as failure:
                if failure.non_retryable:
                    raise
                last = failure
            # A pause like that of a workflow, for a NetBox that is starting.
            await asyncio.sleep(0.01)
        raise last

    async def provision(self, ref: str = "S-1", order: str = "O-1") -> str:
        await self.begin(ref, order)
        prefix = await self.allocate(ref, order)
        await self.activate(ref, order)
        await self.close(ref, order)
        return prefix

    async def deprovision(self, ref: str = "S-1", order: str = "D-1") -> StepReport:
        await self.begin(ref, order, "deprovision")
        await self.revoke(ref, order)
        report = await self.release(ref, order)
        await self.close(ref, order)
        return report

    # The present state

    def records(self) -> list[dict[str, Any]]:
        """Return NetBox's prefixes without containers."""
        with self.server.store.lock:
            return [one for one in self.server.store.all("ipam.prefix") if one["status"] != "container"]

    def record(self, key: str) -> dict[str, Any] | None:
        return next((one for one in self.records() if one["custom_fields"].get(KEY) == key), None)

    async def states(self) -> list[str]:
        return [row[0] for row in await self.owner.fetch("SELECT state FROM delegations ORDER BY id")]

    async def wait_for_locks(self, number: int = 1) -> None:
        """Wait until `number` transactions wait for a lock of another one."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while True:
            if await self.owner.fetchval(query) >= number:
                return
            await asyncio.sleep(0.01)

    async def end_quarantines(self) -> None:
        """End every quarantine, and the time in which NetBox may execute an abandoned request."""
        await self.owner.execute("UPDATE netbox_removals SET due_at = now() - interval '1 second'")
        while await remove_due(self.database, self.netbox, most=100):
            pass

    async def agree(self, *, whole_lines: bool = False) -> list[str]:
        """Return the held prefixes. Raise unless NetBox and the database agree, and the audit finds nothing.

        `whole_lines`: workflows ran the orders, with all their steps.
        """
        records = self.records()
        assert all(count == 1 for count in Counter(one["prefix"] for one in records).values()), "one prefix twice"
        keyed = {one["custom_fields"][KEY]: one for one in records if one["custom_fields"].get(KEY)}
        assert len(keyed) == len([one for one in records if one["custom_fields"].get(KEY)]), "one key twice"

        held = await self.owner.fetch("SELECT *, prefix::text AS written FROM delegations WHERE released_at IS NULL")
        for one in held:
            record = keyed.pop(one["allocation_key"], None)
            assert record is not None, f"{one['written']} is not in NetBox"
            assert (record["id"], record["prefix"]) == (one["netbox_id"], one["written"])
            assert record["custom_fields"][SUBSCRIBER] == one["subscriber_ref"]
            assert record["custom_fields"][STATE] == one["state"]
            assert record["status"] == STATUS[one["state"]]
            assert record["vrf"] == self.vrf
        resting = await self.owner.fetch(
            "SELECT *, prefix::text AS written FROM netbox_removals WHERE prefix IS NOT NULL"
        )
        for one in resting:
            record = keyed.pop(one["allocation_key"], None)
            assert record is not None, f"{one['written']} is not in quarantine in NetBox"
            assert (record["prefix"], record["status"]) == (one["written"], "deprecated")
        assert not keyed, f"in NetBox without a holder: {keyed}"

        checked = [invariant for invariant in INVARIANTS if whole_lines or invariant.name != "incomplete"]
        assert [violation async for violation in check(self.database, invariants=checked)] == []
        return [one["written"] for one in held]


async def until_recorded(env: DirectEnv, key: str = KEY_1) -> dict[str, Any]:
    """Wait until NetBox has a record with the key: it completes requests that the client gave up."""
    while True:
        if record := env.record(key):
            return record
        await asyncio.sleep(0.01)
