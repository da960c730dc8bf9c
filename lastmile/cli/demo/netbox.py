"""The demo's NetBox: its owner provides a prefix for a pool, and looks at the records below it."""

import asyncio
from ipaddress import ip_network
from time import monotonic

from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.binding import resolve_prefix
from ipam.netbox.delegated.blocks import delegated_pools
from ipam.netbox.delegated.outbox import backlog
from ipam.netbox.requirements import check, set_up
from ipam.pools import Pool
from lastmile.contract.addressing import Purpose
from lastmile.db import Database

__all__ = ["POOL", "DemoNetBox"]

POOL = "metro"
"""The pool's name in `examples/netbox.jsonl`."""
SPACE = ip_network("3fff::/40")  # documentation space (RFC 9637)

_PATIENCE_SECONDS = 60
_LOOK_SECONDS = 0.05


class DemoNetBox:
    """The stack's NetBox with the demo's pool."""

    def __init__(self, netbox: NetBox, database: Database) -> None:
        self._netbox = netbox
        self._database = database

    async def pool(self, tenant: str, name: str) -> Pool:
        """Prepare NetBox, and return the pool that acquires its blocks there."""
        wire = self._netbox.wire
        await set_up(wire, await check(wire, tenants={tenant: name}))
        if not [one async for one in self._netbox.records(vrf_id=None, prefix=SPACE)]:
            prefix = {
                "prefix": str(SPACE),
                "status": "container",
                "description": "for subscribers: Lastmile's pool",
            }
            await wire.create("ipam/prefixes", prefix)
        prefix_id, vrf_id = await resolve_prefix(self._netbox, SPACE, "")
        place = {"mode": "delegated", "record": "prefix", "prefix_id": prefix_id, "vrf_id": vrf_id}
        described = {"name": POOL, "prefix": SPACE, "tenant": tenant, "delegated_length": 56, "netbox": place}
        return Pool.model_validate({"purpose": Purpose.IPV6_PD, **described})

    async def caught_up(self) -> bool:
        """Wait until NetBox has all records. Return False after a minute without them."""
        end = monotonic() + _PATIENCE_SECONDS
        while behind := await self._is_behind():
            if monotonic() > end:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return not behind

    async def _is_behind(self) -> bool:
        async with self._database.platform() as connection:
            return any([(await backlog(connection, pool)).waiting for pool in await delegated_pools(connection)])

    async def records(self) -> list[NetBoxRecord]:
        """Return NetBox's records in the pool's space, by length and then by address."""
        found = [one async for one in self._netbox.records(vrf_id=None, within=SPACE)]
        return sorted(found, key=lambda one: (one.prefix.prefixlen, one.prefix.network_address))
