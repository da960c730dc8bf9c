"""Blocks that other users of NetBox deleted, resized or moved, and blocks that NetBox then assigns in their place."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from ipam.netbox import NetBox
from ipam.netbox.delegated.block_acquisition import BlockOverlapError, acquire_block
from ipam.netbox.reconcile.differences import DifferenceKind
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import LOST
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import AVAILABLE, PREFIXES
from tests.support.reconciliation import found, kinds

BLOCK = 16
LENGTHS = [50, 51, 53, 54]


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DelegatedEnv]:
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


@pytest.fixture
async def home(env: DelegatedEnv) -> int:
    return await env.pool()


async def blocks_are(env: DelegatedEnv, length: int) -> None:
    await env.owner.execute("UPDATE pools SET netbox_block_length = $1", length)


async def change_in_netbox(env: DelegatedEnv, id: int, **changes: Any) -> None:
    reply = await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{id}/", changes)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("length", LENGTHS)
async def test_deleted_block_overlapped_by_one_of_another_length_is_restored(
    env: DelegatedEnv, home: int, length: int
) -> None:
    given = await env.lines(BLOCK)
    [block] = env.containers()
    await blocks_are(env, length)
    await env.delete_in_netbox(block["id"])
    given += await env.lines(2, start=50)
    assert len(set(given)) == BLOCK + 2
    assert sorted(await env.agree()) == sorted(given)
    assert block["prefix"] in [one["prefix"] for one in env.containers()]
    assert len(env.containers()) == 2


@pytest.mark.parametrize("prefix", ["2001:db8:4000::/48", "2001:db8:4000::/52"])
async def test_foreign_prefix_over_a_block_is_reported_as_occupied(env: DelegatedEnv, home: int, prefix: str) -> None:
    """NetBox accepts the overlap in a VRF without uniqueness, and does not report it."""
    await asyncio.to_thread(env.peer.send, "PATCH", f"/api/ipam/vrfs/{env.vrf}/", {"enforce_unique": False})
    await env.provision()
    await env.agree()
    assert await kinds(env) == []
    foreign = await env.create_foreign_prefix(prefix)
    for everything in (False, True):
        [one] = await found(env, everything=everything)
        assert (one.kind, one.subject, one.netbox_id, one.repairable) == (
            DifferenceKind.OCCUPIED,
            prefix,
            foreign,
            False,
        )
        assert "covers block 2001:db8:4000::/52" in one.words
    await change_in_netbox(env, foreign, status="container")
    assert await kinds(env, everything=True) == [], "a container only groups"


@pytest.mark.parametrize("length", LENGTHS)
async def test_several_deleted_blocks_are_all_restored(env: DelegatedEnv, home: int, length: int) -> None:
    given = await env.lines(3 * BLOCK)
    await blocks_are(env, length)
    for block in env.containers():
        await env.delete_in_netbox(block["id"])
    given += await env.lines(2, start=50)
    assert len(set(given)) == 3 * BLOCK + 2
    assert sorted(await env.agree()) == sorted(given)
    assert len(env.containers()) == 4


async def test_block_maintenance_restores_a_deleted_block(env: DelegatedEnv, home: int) -> None:
    given = await env.lines(BLOCK)
    await blocks_are(env, 51)
    await env.delete_in_netbox(env.containers()[0]["id"])
    assert sorted(await env.agree_after_maintenance()) == sorted(given)


async def test_concurrent_acquisitions_restore_a_deleted_block_once(env: DelegatedEnv, home: int) -> None:
    """A late acquisition finds that the surplus record, which it would delete, is the block's record by now."""
    given = await env.lines(BLOCK)
    [block] = env.containers()
    await env.delete_in_netbox(block["id"])
    pool = await env.bound_pool()
    async with NetBox(env.server.url, env.server.token, in_flight=8) as netbox:
        for _ in range(5):
            results = await asyncio.gather(
                *(acquire_block(env.database, netbox, pool) for _ in range(4)), return_exceptions=True
            )
            assert {type(one) for one in results} <= {bool, BlockOverlapError}
            assert block["prefix"] in [one["prefix"] for one in env.containers()], "restored, and then deleted"
    assert sorted(await env.agree()) == sorted(given)


async def test_acquisition_begun_before_the_length_changed_is_finished(env: DelegatedEnv, home: int) -> None:
    env.server.faults.next(LOST, method="POST", path=AVAILABLE)
    assert not await env.maintain()
    await blocks_are(env, 50)
    assert await env.provision() == "2001:db8:4000::/56"
    [block] = env.containers()
    assert block["prefix"] == "2001:db8:4000::/52"
    given = await env.lines(BLOCK, start=50)
    assert len(await env.agree()) == len(given) + 1


async def test_block_made_smaller_in_netbox_keeps_its_slots(env: DelegatedEnv, home: int) -> None:
    """NetBox then assigns the space outside of the smaller block, which Lastmile still uses."""
    given = await env.lines(BLOCK)
    await change_in_netbox(env, env.containers()[0]["id"], prefix="2001:db8:4000::/53")
    await blocks_are(env, 53)
    given += await env.lines(1, start=50)
    assert len(set(given)) == BLOCK + 1
    assert sorted(await env.agree()) == sorted(given)


async def test_block_moved_to_another_vrf_keeps_its_slots(env: DelegatedEnv, home: int) -> None:
    given = await env.lines(BLOCK)
    other_vrf = (await asyncio.to_thread(env.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"]
    await change_in_netbox(env, env.containers()[0]["id"], vrf=other_vrf)
    given += await env.lines(1, start=50)
    assert len(set(given)) == BLOCK + 1
    assert sorted(await env.agree()) == sorted(given)


@pytest.mark.parametrize("change", ["deleted", "smaller", "larger", "moved"])
async def test_block_maintenance_repairs_a_changed_block(env: DelegatedEnv, home: int, change: str) -> None:
    await env.provision()
    [block] = env.containers()
    other_vrf = (await asyncio.to_thread(env.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"]
    match change:
        case "deleted":
            await env.delete_in_netbox(block["id"])
        case "smaller":
            await change_in_netbox(env, block["id"], prefix="2001:db8:4000::/53")
        case "larger":
            await change_in_netbox(env, block["id"], prefix="2001:db8:4000::/50")
        case "moved":
            await change_in_netbox(env, block["id"], vrf=other_vrf)
    assert await env.agree() == ["2001:db8:4000::/56"]
    assert [one["prefix"] for one in env.containers()] == ["2001:db8:4000::/52"]
