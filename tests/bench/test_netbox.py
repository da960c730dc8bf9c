"""Tests of the benchmark of pools in NetBox at a small scale."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench import netbox
from bench.netbox_pools import BLOCK, DATABASE, DIRECT, KINDS, PREFIX, FilledPool, build
from lastmile.audit.audit import check
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer

SMALL = netbox.Scale(
    sizes=(0, 20),
    clients={kind: {1: 1, 16: 16} for kind in KINDS},
    rounds=dict.fromkeys(KINDS, 1),
    reported=4,
    outbox_rounds=1,
    as_slow_as_measured=False,
)
TOKEN = "0123456789abcdef0123456789abcdef01234567"
SESSIONS = {"not_in_radius", "incomplete", "taken_away", "not_active"}
"""The violations of lines that have only an address."""


@pytest.fixture
async def empty(owner_url: str) -> AsyncIterator[Database]:
    database = Database(owner_url)
    yield database
    await database.close()


async def test_netbox_benchmark_returns_every_measurement(tmp_path: Path, owner_url: str) -> None:
    measurements = await netbox.measure(tmp_path, owner_url, SMALL)
    # Processor time is counted in ticks, and so few allocations may need less than one tick.
    assert all(measurement.value > 0 for measurement in measurements if "processor time" not in measurement.name)
    by_name = {(measurement.name, measurement.peer) for measurement in measurements}
    for kind in (DATABASE, BLOCK, PREFIX):
        for clients in ("1 client", "16 clients"):
            assert (f"{kind}, {clients}, 20 children", "the same, direct") in by_name
        assert (f"{kind}, 16 clients, 20 children", "the same at 0") in by_name
    assert ("prefixes recorded in NetBox by the outbox", "bare POSTs, 4 in flight") in by_name


async def test_netbox_benchmark_pools_have_no_violation(tmp_path: Path, empty: Database, owner_url: str) -> None:
    pools = [FilledPool(kind, 20, number) for number, kind in enumerate(KINDS, start=1)]
    file = tmp_path / "netbox.db"
    await build(empty, owner_url, pools, file, TOKEN)
    found = {one.invariant.name async for one in check(empty)}
    assert found <= SESSIONS
    with NetBoxServer(file=file) as server:
        held = [one["prefix"] for one in server.store.all("ipam.prefix") if one["status"] == "active"]
    spaces = {pool.kind: f"2001:db8:{pool.number}" for pool in pools}
    in_netbox = {kind: sum(prefix.startswith(space) for prefix in held) for kind, space in spaces.items()}
    assert in_netbox == {DATABASE: 0, DIRECT: 20, BLOCK: 0, PREFIX: 20}
