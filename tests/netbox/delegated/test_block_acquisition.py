"""Delegated pools: blocks are acquired whole, after any fault, and assigned from without NetBox."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError
from temporalio.exceptions import ApplicationError

from ipam.allocation import allocate
from ipam.modes import DelegatedMode, ReportingScope
from ipam.netbox import NetBox
from ipam.netbox.delegated.block_acquisition import acquire_block
from ipam.netbox.delegated.blocks import MAINTENANCE_LOCK
from ipam.netbox.records import KEY, SIZE, USED
from ipam.pools import Pool
from lastmile.contract.addressing import Need, Purpose
from lastmile.db import Database
from lastmile.db.advisory_lock import exclusive
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import CUT, DROPPED, LOST, POSTGRES_DOWN, REDIS_LOST, Fault, proxy
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import AVAILABLE, PREFIXES, SPACE, VRF, refusal

BLOCK = 16


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DelegatedEnv]:
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


@pytest.fixture
async def home(env: DelegatedEnv) -> int:
    """Add a delegated pool of /56s; return its id in NetBox."""
    return await env.pool()


# The acquisition of blocks


async def test_first_allocation_acquires_a_block(env: DelegatedEnv, home: int) -> None:
    assert await env.provision() == "2001:db8:4000::/56"
    [block] = env.containers()
    assert (block["prefix"], block["status"]) == ("2001:db8:4000::/52", "container")
    assert block["description"] == "Block of pool home: Lastmile assigns /56s of it to subscribers"
    assert env.records() == [], "no record of a prefix"
    assert await env.agree() == ["2001:db8:4000::/56"]
    [block] = env.containers()
    assert (block["custom_fields"][USED], block["custom_fields"][SIZE]) == (1, BLOCK)


async def test_block_maintenance_acquires_the_next_block_ahead_of_need(env: DelegatedEnv, home: int) -> None:
    assert await env.maintain()
    assert len(env.containers()) == 1, "before the first line"
    await env.lines(BLOCK * 3 // 4)
    await env.maintain()
    assert len(env.containers()) == 1, "a quarter is free"
    await env.lines(1, start=100)
    await env.maintain()
    assert len(env.containers()) == 2
    await env.agree()


async def test_allocation_from_a_full_block_acquires_another(env: DelegatedEnv, home: int) -> None:
    given = await env.lines(2 * BLOCK + 1)
    assert len(set(given)) == 2 * BLOCK + 1
    assert len(env.containers()) == 3
    assert sorted(await env.agree()) == sorted(given)


async def test_concurrent_allocations_acquire_one_block(env: DelegatedEnv, home: int) -> None:
    await env.lines(BLOCK)
    assert len(env.containers()) == 1


async def test_concurrent_allocations_send_one_request(env: DelegatedEnv, home: int) -> None:
    slow = Fault(latency=0.1)
    env.server.faults.chance(slow, 1, path=AVAILABLE)
    await env.lines(BLOCK)
    assert env.server.faults.met[slow] == 1


async def test_concurrent_workers_acquire_one_block(env: DelegatedEnv, home: int, owner_url: str) -> None:
    other = Database(owner_url)
    pool = await env.bound_pool()
    arrived, gate = asyncio.Event(), asyncio.get_running_loop()
    env.server.faults.next(
        Fault(delay=lambda: gate.call_soon_threadsafe(arrived.set), work=0.2), method="POST", path=AVAILABLE
    )
    first = asyncio.create_task(acquire_block(env.database, env.netbox, pool))
    await arrived.wait()
    async with NetBox(env.server.url, env.server.token) as netbox:
        await asyncio.gather(first, acquire_block(other, netbox, pool), acquire_block(other, netbox, pool))
    await other.close()
    assert len(env.containers()) == 1
    assert await env.agree() == []


async def test_block_maintenance_runs_in_one_process_at_a_time(env: DelegatedEnv, home: int, owner_url: str) -> None:
    other = Database(owner_url)
    async with exclusive(other, MAINTENANCE_LOCK) as first:
        assert first
        assert await env.maintain()
        assert env.containers() == []
    assert await env.maintain()
    await other.close()
    assert len(env.containers()) == 1


# Lost requests and replies


@pytest.mark.parametrize("fault", [LOST, CUT, REDIS_LOST, DROPPED, POSTGRES_DOWN, proxy(503)])
async def test_acquisition_with_a_fault_is_completed_by_the_retry(env: DelegatedEnv, home: int, fault: Fault) -> None:
    await env.begin()
    env.server.faults.next(fault, method="POST", path=AVAILABLE)
    failure = await refusal(env.allocate())
    assert (failure.type, failure.non_retryable) == ("NoBlockError", False)
    assert failure.message.startswith(
        "no block of pool home (2001:db8:4000::/40) has a free prefix, and no further one could be acquired now: "
    )
    assert await env.allocate_with_retries() == "2001:db8:4000::/56"
    await env.finish()
    assert len(env.containers()) == 1
    await env.agree()


async def test_block_of_a_lost_worker_is_completed(env: DelegatedEnv, home: int) -> None:
    arrived, loop = asyncio.Event(), asyncio.get_running_loop()
    env.server.faults.next(Fault(hold=lambda: loop.call_soon_threadsafe(arrived.set)), method="POST", path=AVAILABLE)
    task = asyncio.create_task(env.maintain())
    await arrived.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await env.retry(lambda: env.maintain())
    assert len(env.containers()) == 1
    await env.agree()


async def test_orders_without_netbox_use_the_acquired_blocks(env: DelegatedEnv, home: int) -> None:
    await env.maintain()
    env.server.stop()
    given = await env.lines(BLOCK)
    assert len(set(given)) == BLOCK
    await env.deprovision("S-1", "D-1")
    await env.begin("S-99", "O-99")
    failure = await refusal(env.allocate("S-99", "O-99"))
    assert (failure.type, failure.non_retryable) == ("NoBlockError", False)
    assert "no block of pool home" in failure.message
    assert "no NetBox answers at" in failure.message
    assert not await env.maintain()

    env.server.start()
    assert await env.allocate("S-99", "O-99") not in given
    await env.finish("S-99", "O-99")
    assert len(await env.agree()) == BLOCK


async def test_allocation_after_an_exhausted_pool_uses_the_next(env: DelegatedEnv) -> None:
    await env.pool("2001:db8:4000::/51")
    await env.lines(2 * BLOCK)
    await env.pool("2001:db8:8000::/40", "second")
    assert (await env.lines(1, start=99))[0] == "2001:db8:8000::/56"


# Changes by other users of NetBox


async def test_block_deleted_in_netbox_is_created_again(env: DelegatedEnv, home: int) -> None:
    await env.provision()
    await env.delete_in_netbox(env.containers()[0]["id"])
    await env.agree()
    [block] = env.containers()
    assert (block["prefix"], block["custom_fields"][USED]) == ("2001:db8:4000::/52", 1)


async def test_space_of_a_deleted_block_is_not_assigned_twice(env: DelegatedEnv, home: int) -> None:
    """NetBox assigns the space at the next request, before block maintenance restores the record."""
    given = await env.lines(BLOCK)
    await env.delete_in_netbox(env.containers()[0]["id"])
    given += await env.lines(1, start=99)
    assert len(set(given)) == BLOCK + 1
    assert sorted(await env.agree()) == sorted(given)
    assert len(env.containers()) == 2


async def test_acquisition_from_a_deleted_pool_prefix_is_refused(env: DelegatedEnv, home: int) -> None:
    await env.provision()
    reply = await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{home}/")
    assert reply.status_code == 204
    await env.lines(BLOCK - 1, start=2)
    await env.begin("S-99", "O-99")
    failure = await refusal(env.allocate("S-99", "O-99"))
    assert (failure.type, failure.non_retryable) == ("PoolMovedError", True)
    assert "Restore it there" in failure.message


async def test_acquisition_from_a_pool_in_another_vrf_is_refused(env: DelegatedEnv, home: int) -> None:
    other_vrf = (await asyncio.to_thread(env.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"]
    await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{home}/", {"vrf": other_vrf})
    env.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await env.begin("S-99", "O-99")
    with pytest.raises(ApplicationError) as failure:
        await env.retry(lambda: env.allocate("S-99", "O-99"))
    assert failure.value.type == "PoolMovedError"
    assert "in another VRF" in failure.value.message
    await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{home}/", {"vrf": env.vrf})
    assert await env.allocate("S-99", "O-99") == "2001:db8:4000::/56"
    assert [one["vrf"] for one in env.containers()] == [env.vrf]


async def test_block_record_with_another_key_is_kept(env: DelegatedEnv, home: int) -> None:
    """Another user changed the record: it is kept, and allocations continue."""
    await env.maintain()
    [block] = env.containers()
    reply = await asyncio.to_thread(
        env.peer.send, "PATCH", f"{PREFIXES}{block['id']}/", {"custom_fields": {KEY: "x"}, "description": "mine"}
    )
    assert reply.status_code == 200
    assert not await env.maintain()
    assert [one["description"] for one in env.containers()] == ["mine"]
    assert await env.provision() == "2001:db8:4000::/56"


# Pools and block lengths


async def test_allocation_within_a_block_needs_no_netbox(env: DelegatedEnv, home: int) -> None:
    await env.maintain()
    asked = len(env.containers())
    env.server.stop()
    async with env.database.tenant("acme") as connection:
        made = await allocate(
            connection, tenant="acme", subscriber_ref="S-1", order_id="O-1", need=Need(Purpose.IPV6_PD, 56, vrf=VRF)
        )
    assert made.created
    env.server.start()
    assert len(env.containers()) == asked


def described(prefix: str, **netbox: Any) -> Pool:
    """Return a pool, which is delegated unless a test says otherwise."""
    mode = {"mode": "delegated", "prefix_id": 1, "vrf_id": None} | netbox
    values = {"name": "home", "prefix": prefix, "purpose": Purpose.IPV6_PD, "delegated_length": 56, "netbox": mode}
    return Pool.model_validate(values)


@pytest.mark.parametrize(
    ("prefix", "wanted", "chosen"),
    [("2001:db8::/32", None, 44), ("2001:db8::/46", None, 47), ("2001:db8::/32", 48, 48), ("2001:db8::/55", None, 56)],
)
def test_block_length_defaults_by_the_pool(prefix: str, wanted: int | None, chosen: int) -> None:
    pool = described(prefix, block_length=wanted)
    assert isinstance(pool.netbox, DelegatedMode)
    assert (pool.netbox.block_length, pool.netbox.record) == (chosen, ReportingScope.BLOCK)


@pytest.mark.parametrize(("length", "words"), [(32, "/40 to a /56"), (57, "/40 to a /56"), (39, "/40 to a /56")])
def test_block_length_outside_the_pool_is_refused(length: int, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        described("2001:db8::/32", block_length=length)


def test_block_of_one_prefix_with_prefix_records_is_refused() -> None:
    """The block and the prefix would be equal, and NetBox refuses the second in a VRF that enforces uniqueness."""
    with pytest.raises(ValidationError, match="/40 to a /55, not a /56"):
        described("2001:db8::/32", record=ReportingScope.PREFIX, block_length=56)
    with pytest.raises(ValidationError, match="needs a larger prefix, or --record block"):
        described("2001:db8::/55", record=ReportingScope.PREFIX)


def test_block_length_of_a_direct_pool_is_refused() -> None:
    with pytest.raises(ValidationError, match="only a delegated pool has blocks"):
        described("2001:db8::/32", mode="direct", block_length=44)


assert SPACE == "2001:db8:4000::/40"
