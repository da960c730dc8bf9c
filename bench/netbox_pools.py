"""Pools of every kind and size, with the records of years of operation in NetBox and in the database."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Network
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg

from bench.copies import SETTLE, as_owner
from ipam.modes import AllocationMode, DatabaseMode, ReportingScope
from ipam.netbox import NetBox
from ipam.netbox.delegated.block_acquisition import acquire_block
from ipam.netbox.delegated.block_maintenance import BlockMaintenance
from ipam.netbox.delegated.blocks import delegated_pools
from ipam.netbox.records import KEY, STATE, SUBSCRIBER, TAG
from ipam.netbox.requirements import check, set_up
from ipam.pools import Pool, add_pool
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.subscribers.tenants import add_tenant

__all__ = ["BLOCK", "DATABASE", "DIRECT", "KINDS", "LENGTH", "PREFIX", "TENANT", "FilledPool", "build"]

TENANT = "acme"
DATABASE, DIRECT, BLOCK, PREFIX = KINDS = (
    "database",
    "direct",
    "delegated, record=block",
    "delegated, record=prefix",
)
_MODES: dict[str, dict[str, Any]] = {
    DIRECT: {"mode": AllocationMode.DIRECT},
    BLOCK: {"mode": AllocationMode.DELEGATED, "record": ReportingScope.BLOCK},
    PREFIX: {"mode": AllocationMode.DELEGATED, "record": ReportingScope.PREFIX},
}
LENGTH = 56
LONG_AGO = "2026-01-01T00:00:00.000000Z"
_DELEGATIONS = "tenant_id pool_id slot prefix subscriber_ref purpose allocation_key created_by_order state netbox_id"

# The frontier of a pool that NetBox does not know, as its allocations have moved it.
_REACH = """
    WITH moved AS (UPDATE pools SET frontier = $2::bigint WHERE id = $1 RETURNING id, tenant_id)
    INSERT INTO slots (pool_id, slot, tenant_id) SELECT id, n, tenant_id FROM moved, generate_series(0, $2 - 1) n
"""


@dataclass(frozen=True, slots=True)
class FilledPool:
    """A pool of one kind, with the number of prefixes that are held when the benchmark begins."""

    kind: str
    held: int
    number: int

    @property
    def name(self) -> str:
        return f"pool-{self.number}"

    @property
    def space(self) -> IPv6Network:
        """Return the /36 of the pool in the documentation prefix."""
        return IPv6Network(f"2001:db8:{self.number:x}000::/36")


async def build(database: Database, owner_url: str, pools: Sequence[FilledPool], file: Path, token: str) -> None:
    """The pools, in an empty migrated database and in the NetBox whose data are in `file`.

    NetBox does its share at its own pace later; here the stand-in is as fast as it can be.
    """
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute("SET synchronous_commit = off")
        with NetBoxServer(file=file, token=token) as server:
            async with NetBox(server.url, token) as netbox:
                await set_up(netbox.wire, await check(netbox.wire, tenants={TENANT: TENANT}))
                async with database.platform() as platform:
                    await add_tenant(platform, TENANT, TENANT)
                for pool in pools:
                    await _add(database, netbox, pool)
                    await _fill(owner, server, pool)
                await BlockMaintenance(database, netbox, timedelta()).run_once()
    finally:
        await owner.close()
    await as_owner(owner_url, *SETTLE)


async def _add(database: Database, netbox: NetBox, pool: FilledPool) -> None:
    """The pool, and its blocks: as many as it takes to hold what it will, with room in the last."""
    mode: DatabaseMode | dict[str, Any] = DatabaseMode()
    if pool.kind != DATABASE:
        container = await netbox.wire.create("ipam/prefixes", {"prefix": str(pool.space), "status": "container"})
        mode = _MODES[pool.kind] | {"prefix_id": container["id"]}
    async with database.platform() as platform:
        what = {"purpose": Purpose.IPV6_PD, "delegated_length": LENGTH, "tenant": TENANT, "netbox": mode}
        await add_pool(platform, Pool.model_validate({"name": pool.name, "prefix": pool.space, **what}))
        delegated = [bound for bound in await delegated_pools(platform) if bound.name == pool.name]
    for bound in delegated:
        while await acquire_block(database, netbox, bound, free_slots=pool.held + 1):
            pass


async def _fill(owner: asyncpg.Connection, server: NetBoxServer, pool: FilledPool) -> None:
    id = await owner.fetchval("SELECT id FROM pools WHERE name = $1", pool.name)
    if pool.kind == DIRECT:
        held: Iterator[tuple[int | None, str]] = (
            (None, str(prefix)) for prefix in islice(pool.space.subnets(new_prefix=LENGTH), pool.held)
        )
    else:
        if pool.kind == DATABASE:
            await owner.execute(_REACH, id, pool.held)
        rows = await owner.fetch(
            """
            SELECT slot, lastmile_nth_prefix(prefix, delegated_length, slot)::text FROM slots JOIN pools ON pool_id = id
            WHERE id = $1 ORDER BY slot LIMIT $2
            """,
            id,
            pool.held,
        )
        held = ((slot, prefix) for slot, prefix in rows)
    record = _recording(server, pool) if pool.kind in (DIRECT, PREFIX) else None
    delegations, records = [], []
    with server.store.transaction():
        for number, (slot, prefix) in enumerate(held):
            ref = f"F-{pool.number}-{number}"
            key = f"{TENANT}/{ref}/ipv6_pd/F"
            netbox_id = None if record is None else record(prefix, key, ref)
            in_row = netbox_id if slot is None else None
            delegations.append((TENANT, id, slot, prefix, ref, "ipv6_pd", key, "F", "active", in_row))
            if pool.kind == PREFIX:
                records.append((id, slot, TENANT, netbox_id, key, None, None))
    await owner.copy_records_to_table("delegations", records=delegations, columns=_DELEGATIONS.split())
    await owner.execute("DELETE FROM netbox_records WHERE pool_id = $1", id)  # as if everything were reported
    names = ("pool_id", "slot", "tenant_id", "netbox_id", "key", "since", "due_at")
    await owner.copy_records_to_table("netbox_records", records=records, columns=names)
    await owner.execute(
        """
        UPDATE slots s SET delegation_id = d.id FROM delegations d
        WHERE d.pool_id = $1 AND s.pool_id = d.pool_id AND s.slot = d.slot
        """,
        id,
    )


def _recording(server: NetBoxServer, pool: FilledPool) -> Callable[[str, str, str], int]:
    """Return a function that stores a prefix in NetBox without a request, and returns its id."""
    [container] = server.store.matching("ipam.prefix", {"prefix": str(pool.space)})
    [tag], [tenant] = (
        server.store.matching(kind, {"slug": slug}) for kind, slug in (("extras.tag", TAG), ("tenancy.tenant", TENANT))
    )
    common = {**container, "status": "active", "tags": [tag["id"]], "tenant": tenant["id"], "last_updated": LONG_AGO}
    del common["id"]

    def record(prefix: str, key: str, ref: str) -> int:
        fields = {**container["custom_fields"], KEY: key, SUBSCRIBER: ref, STATE: "active"}
        return int(server.store.add("ipam.prefix", {**common, "prefix": prefix, "custom_fields": fields})["id"])

    return record
