"""Where the pools of the cases are kept, if not in the database alone: a NetBox, in one of the ways that there are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ipam.modes import AllocationMode, PoolMode, ReportingScope, read_mode
from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool, pools_in_netbox
from ipam.netbox.delegated.block_acquisition import acquire_block
from ipam.netbox.delegated.block_sync import report_use
from ipam.netbox.delegated.outbox import drain
from ipam.netbox.reconcile.run import differences
from ipam.netbox.records import KEY
from ipam.netbox.requirements import check, set_up
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.ports import HOST
from tests.support.netbox_peer import Peer

__all__ = ["AWAY", "DELEGATED", "DIRECT", "NetBoxPools", "Way", "netbox_pools"]


@dataclass(frozen=True)
class Way:
    """How NetBox keeps a pool."""

    name: str
    binding: dict[str, Any]
    away: bool = False
    """The workers find no NetBox: each pool has the block that it needs."""

    def __str__(self) -> str:
        return self.name


DIRECT = Way("direct", {"mode": AllocationMode.DIRECT})
# Blocks of two prefixes each: whoever needs the first takes one.
DELEGATED = Way("delegated", {"mode": AllocationMode.DELEGATED, "record": ReportingScope.PREFIX, "block_length": 55})
AWAY = Way("away", {"mode": AllocationMode.DELEGATED, "record": ReportingScope.BLOCK, "block_length": 55}, away=True)


class NetBoxPools:
    """One NetBox, for pools that are all kept in one way; `client` is not the workers'."""

    def __init__(self, server: NetBoxServer, client: NetBox, way: Way) -> None:
        self.way = way
        self._server = server
        self._client = client

    @property
    def settings(self) -> dict[str, str]:
        """A worker's."""
        url = f"http://{HOST}:1" if self.way.away else self._server.url
        return {"NETBOX_URL": url, "NETBOX_TOKEN": self._server.token}

    async def binding(self, tenant: str, prefix: str) -> PoolMode:
        """Of a new pool, which is there, with its tenant, from now on."""
        return await asyncio.to_thread(self._binding, tenant, prefix)

    def _binding(self, tenant: str, prefix: str) -> PoolMode:
        peer = Peer(self._server.url, self._server.token)
        peer.create("/api/tenancy/tenants/", name=tenant, slug=tenant)
        made = peer.create("/api/ipam/prefixes/", prefix=prefix, status="container")
        return read_mode(self.way.binding | {"prefix_id": made["id"]})

    async def open(self, database: Database, tenant: str) -> None:
        """What is to be done ahead, where workers cannot ask NetBox."""
        if self.way.away:
            await acquire_block(database, self._client, await self._pool(database, tenant))

    def given(self, tenant: str) -> int:
        """How many prefixes NetBox has chosen for the tenant's lines; not those that rest."""
        if self.way.binding["mode"] is not AllocationMode.DIRECT:
            return 0
        with self._server.store.lock:
            records = list(self._server.store.all("ipam.prefix"))
        keys = [one["custom_fields"].get(KEY) or "" for one in records if one["status"] != "deprecated"]
        return sum(key.startswith(f"{tenant}/") for key in keys)

    async def shown(self, database: Database, tenant: str) -> list[str]:
        """What NetBox shows for the tenant's lines, once it has been told; not the prefixes that rest."""
        await self._report(database, tenant)
        with self._server.store.lock:
            records = list(self._server.store.all("ipam.prefix"))
        return sorted(
            f"{one['prefix']} {one['status']}"
            for one in records
            if (one["custom_fields"].get(KEY) or "").startswith(f"{tenant}/") and one["status"] != "deprecated"
        )

    async def wrong(self, database: Database, tenant: str) -> list[str]:
        """What NetBox does not have as it is, once it has been told of a delegated pool."""
        if self.way.binding["mode"] is AllocationMode.DIRECT:  # what an order leaves undone there, its steps say
            return []
        await self._report(database, tenant)
        pool = await self._pool(database, tenant)
        return [str(one) async for one in differences(database, self._client, pools=[pool])]

    async def _report(self, database: Database, tenant: str) -> None:
        """Tell NetBox of a delegated pool; of a direct one it knows."""
        if self.way.binding["mode"] is AllocationMode.DIRECT:
            return
        pool = await self._pool(database, tenant)
        await report_use(database, self._client, pool)
        if pool.netbox.reports_prefixes:
            await drain(database, self._client, pool)

    @staticmethod
    async def _pool(database: Database, tenant: str) -> BoundPool:
        async with database.tenant(tenant) as connection:
            [pool] = await pools_in_netbox(connection)
        return pool


@asynccontextmanager
async def netbox_pools(way: Way) -> AsyncIterator[NetBoxPools]:
    """With all that Lastmile needs there."""
    with NetBoxServer() as server:
        async with NetBox(server.url, server.token) as client:
            await set_up(client.wire, await check(client.wire))
            yield NetBoxPools(server, client, way)
