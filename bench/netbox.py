"""Allocations per second from pools of every kind and size, and the rate of the outbox next to bare POSTs.

Each kind is allocated from by its `PrefixAllocator`, as in a step of an order. NetBox is the stand-in in a separate
process, with the latency of a real NetBox.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path

from bench import outbox
from bench.copies import copied
from bench.cpu import cpu_seconds
from bench.measurements import Measurement, at_least
from bench.netbox_pools import BLOCK, DATABASE, DIRECT, KINDS, LENGTH, PREFIX, TENANT, FilledPool, build
from bench.rounds import Measured, Turn, Work, medians, rate
from ipam.allocation import Quarantine
from ipam.allocator import PrefixAllocator
from ipam.database_allocator import DatabaseAllocator
from ipam.netbox import NetBox
from ipam.netbox.delegated.allocator import DelegatedAllocator
from ipam.netbox.delegated.block_maintenance import BlockMaintenance
from ipam.netbox.direct.allocator import DirectAllocator
from ipam.order_scope import OrderScope
from lastmile.contract.addressing import Addressing
from lastmile.db import Database
from lastmile.devstack.netbox.server_process import NetBoxStandIn
from lastmile.devstack.ports import Ports
from lastmile.devstack.secret import ensure_secret, secret_file

__all__ = ["Scale", "measure"]

REST = timedelta(days=7)
CONNECTIONS = 24
"""Connections for 16 clients and the block maintenance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The extent of the benchmark."""

    sizes: tuple[int, ...] = (0, 5_000, 20_000)
    """The numbers of prefixes that are held already: children of the pool's prefix."""
    clients: Mapping[str, Mapping[int, int]] = field(
        default_factory=lambda: {kind: {1: 4, 16: 24} if kind == DIRECT else {1: 30, 16: 240} for kind in KINDS}
    )
    """The number of allocations in a round, by kind of pool and number of clients."""
    rounds: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 9) | {DIRECT: 3})
    """The number of rounds by kind of pool. Short rounds need more, since a moment's load affects them more."""
    reported: int = 64
    """The number of prefixes that a round of the outbox records in NetBox."""
    outbox_rounds: int = 3
    as_slow_as_measured: bool = True


FULL = Scale()


async def measure(directory: Path, template_url: str, scale: Scale = FULL) -> list[Measurement]:
    """Measure allocations in copies of a migrated database without connections."""
    kinds = [(kind, held) for kind in KINDS for held in scale.sizes]
    pools = [FilledPool(kind, held, number) for number, (kind, held) in enumerate(kinds)]
    fresh = FilledPool(PREFIX, 0, len(pools))
    token = ensure_secret(directory, "netbox")
    async with _estate(directory, template_url, [*pools, fresh], token, scale) as (database, netbox):
        work = _allocating(database, netbox, fresh)
        reported = await outbox.measure(
            database, netbox, token, work, number=scale.reported, rounds=scale.outbox_rounds
        )
        found: dict[str, Measured] = {}
        for kind in KINDS:
            turns = {pool.name: _turn(database, netbox, pool, scale) for pool in pools if pool.kind == kind}
            if kind == DIRECT:
                found |= await medians(scale.rounds[kind], turns)
                continue
            # The acquisition of the next block and the outbox run meanwhile, as in production.
            async with BlockMaintenance(database, netbox, REST):
                await medians(1, turns)
                found |= await medians(scale.rounds[kind], turns)
    return [*_measurements(pools, found), *reported]


@asynccontextmanager
async def _estate(
    directory: Path, template_url: str, pools: list[FilledPool], token: str, scale: Scale
) -> AsyncIterator[tuple[Database, NetBox]]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(copied(template_url, "bench_netbox"))
        database = Database(url, pool_size=CONNECTIONS)
        stack.push_async_callback(database.close)
        server = NetBoxStandIn(
            directory,
            port=Ports(directory).claim("NetBox"),
            token_file=secret_file(directory, "netbox"),
            as_slow_as_measured=scale.as_slow_as_measured,
        )
        await build(database, url, pools, server.file, token)
        await stack.enter_async_context(server)
        netbox = await stack.enter_async_context(NetBox(server.url, token))
        await netbox.require()
        yield database, netbox


def _turn(database: Database, netbox: NetBox, pool: FilledPool, scale: Scale) -> Turn:
    work = _allocating(database, netbox, pool)

    clients = scale.clients[pool.kind]

    async def turn() -> Measured:
        before = cpu_seconds()
        rates = {str(most): await rate(work, number, most) for most, number in clients.items()}
        after = cpu_seconds()
        milliseconds = 1000 / sum(clients.values())
        return rates | {name: (after[name] - before[name]) * milliseconds for name in ("worker", "postgres")}

    return turn


def _allocating(database: Database, netbox: NetBox, pool: FilledPool) -> Work:
    """Return the work of an order's allocation step, without the order's row."""
    numbers = count()
    allocator = _allocator(database, netbox, pool.kind)
    addressing = Addressing(ipv6_pd_size=LENGTH, ipv6_pool=pool.name)

    async def work() -> None:
        order = f"O-{pool.number}-{next(numbers)}"
        scope = OrderScope(
            tenant=TENANT,
            subscriber_ref=f"S-{order}",
            order_id=order,
            transaction=lambda: database.tenant(TENANT),
        )
        await allocator.allocate(scope, addressing)

    return work


def _allocator(database: Database, netbox: NetBox, kind: str) -> PrefixAllocator:
    in_database = DatabaseAllocator(Quarantine(REST, REST))
    if kind == DATABASE:
        return in_database
    if kind == DIRECT:
        return DirectAllocator(in_database, database, netbox)
    return DelegatedAllocator(in_database, database, netbox)


def _measurements(pools: list[FilledPool], found: dict[str, Measured]) -> list[Measurement]:
    at = {(pool.kind, pool.held): found[pool.name] for pool in pools}
    sizes = sorted({pool.held for pool in pools})
    measurements = []
    for kind in KINDS:
        for clients in ("1", "16"):
            for size in sizes:
                name = f"{kind}, {clients} client{'s' * (clients != '1')}, {size:,} children"
                value = at[kind, size][clients]
                if kind == DIRECT:
                    measurements.append(Measurement(name, value, "/s"))
                    continue
                target = at_least(100) if (clients, size) == ("16", 5_000) else None
                measurements.append(
                    Measurement(name, value, "/s", "the same, direct", at[DIRECT, size][clients], target)
                )
    least, most = sizes[0], sizes[-1]
    for kind in (DATABASE, BLOCK, PREFIX):
        name, peer = f"{kind}, 16 clients, {most:,} children", f"the same at {least:,}"
        measurements.append(Measurement(name, at[kind, most]["16"], "/s", peer, at[kind, least]["16"], at_least(0.8)))
        for part, whose in (("worker", "worker"), ("postgres", "PostgreSQL")):
            name = f"{kind}, {most:,} children: processor time of the {whose}"
            measurements.append(Measurement(name, at[kind, most][part], "ms", peer, at[kind, least][part]))
    return measurements
