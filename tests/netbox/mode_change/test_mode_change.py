"""The change of a pool's mode: repeated, refused, cut off and completed.

tests/system/test_mode_changes.py has the changes from each mode to each.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from temporalio.client import Client

from ipam.modes import OnRelease
from ipam.netbox.mode_change import preparation
from lastmile.client.pool_modes import PoolModeError, PoolModeOutageError
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import DROPPED, LOST
from tests.support.direct_env import AVAILABLE, PREFIXES, refusal
from tests.support.pool_mode_env import BLOCK, BLOCKS, DATABASE, DIRECT, PREFIX, PoolModeEnv, Way
from tests.support.reconciliation import repaired
from workflows.maintenance import pool_mode_change


@pytest.fixture
async def env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer, temporal_client: Client
) -> AsyncIterator[PoolModeEnv]:
    async with PoolModeEnv.serving(owner_url, owner, netbox_server) as env, env.working(temporal_client):
        yield env


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_mode_change, "ROUND", timedelta(milliseconds=50))
    monkeypatch.setattr(preparation, "PAUSE", timedelta(milliseconds=50))


@pytest.mark.parametrize("before", [DIRECT, BLOCKS, PREFIX])
async def test_repeated_changes_keep_all_prefixes(env: PoolModeEnv, before: Way) -> None:
    await env.start(before)
    await env.lines(BLOCK)
    held = await env.agree_as(before)
    for way in (PREFIX, DIRECT, BLOCKS, DIRECT, PREFIX, BLOCKS):
        await env.change(way)
        assert await env.agree_as(way) == held


async def test_change_without_netbox_leaves_the_pool_unchanged(
    env: PoolModeEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    await env.start(DATABASE)
    await env.lines(3)
    env.server.stop()
    monkeypatch.setattr(pool_mode_change, "ATTEMPTS", 1)
    with pytest.raises(PoolModeOutageError, match="no NetBox answers"):
        await env.change(BLOCKS)
    assert await env.owner.fetchval("SELECT mode FROM pools") == "database"
    assert len(await env.lines(2, start=50)) == 2
    env.server.start()
    await env.change(BLOCKS)
    assert len(await env.agree_as(BLOCKS)) == 5


@pytest.mark.parametrize("after", [DIRECT, BLOCKS])
async def test_change_with_a_foreign_prefix_over_a_subscribers_is_refused(env: PoolModeEnv, after: Way) -> None:
    await env.start(DATABASE)
    await env.lines(1)
    foreign = await env.create_foreign_prefix("2001:db8:4000::/60")
    with pytest.raises(PoolModeError, match=r"2001:db8:4000::/60, where S-1 holds 2001:db8:4000::/56"):
        await env.change(after)
    assert await env.owner.fetchval("SELECT mode FROM pools") == "database"
    assert env.containers() == []
    await env.delete_in_netbox(foreign)
    await env.change(after)
    assert await env.agree_as(after) == ["2001:db8:4000::/56"]


async def test_change_with_a_foreign_prefix_equal_to_a_block_is_refused(env: PoolModeEnv) -> None:
    await env.start(DATABASE)
    await env.lines(1)
    await env.create_foreign_prefix("2001:db8:4000:1000::/52")
    with pytest.raises(PoolModeError, match=r"2001:db8:4000:1000::/52, where block 2001:db8:4000:1000::/52 would be"):
        await env.change(BLOCKS, length=52)


async def test_change_beside_foreign_prefixes_assigns_none_of_their_slots(env: PoolModeEnv) -> None:
    await env.start(DIRECT)
    await env.lines(3)
    await env.create_foreign_prefix("2001:db8:4000:300::/56")
    await env.create_foreign_prefix("2001:db8:4000:800::/53")
    await env.change(PREFIX)
    given = sorted(await env.lines(BLOCK - 3 - 1 - 8 + 1, start=50), key=lambda one: int(one.split(":")[3], 16))
    assert [one.split(":")[3] for one in given] == ["400", "500", "600", "700", "1000"]


async def test_change_of_a_direct_pool_with_a_waiting_order_is_refused(
    env: PoolModeEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_mode_change, "ROUNDS", 2)
    await env.start(DIRECT)
    await env.begin()
    env.server.faults.next(DROPPED, method="POST", path=AVAILABLE)
    assert not (await refusal(env.allocate())).non_retryable
    with pytest.raises(PoolModeError, match="orders for S-1 wait for a prefix of pool home"):
        await env.change(BLOCKS)
    assert await env.owner.fetchval("SELECT mode FROM pools") == "direct"
    await env.allocate_with_retries()
    await env.finish()
    await env.change(BLOCKS)
    assert len(await env.agree_as(BLOCKS)) == 1


async def test_allocation_from_a_pool_closed_by_a_change_waits(env: PoolModeEnv) -> None:
    await env.start(DIRECT)
    await env.owner.execute("UPDATE pools SET netbox_closed_until = now() + interval '1 minute'")
    await env.begin()
    failure = await refusal(env.allocate())
    assert (failure.type, failure.non_retryable) == ("PoolChangingError", False)
    await env.owner.execute("UPDATE pools SET netbox_closed_until = now()")
    await env.provision("S-2", "O-2")


async def test_change_of_release_and_block_length_applies_to_records(env: PoolModeEnv) -> None:
    await env.start(PREFIX)
    await env.lines(2)
    await env.deprovision("S-1", "D-1")
    await env.agree()
    assert sorted(one["status"] for one in env.records()) == ["active", "deprecated"]
    await env.change(PREFIX, OnRelease.DELETE, 54)
    await env.agree()
    assert [one["status"] for one in env.records()] == ["active"]
    await env.change(PREFIX, OnRelease.DEPRECATE, 54)
    await env.agree()
    assert sorted(one["status"] for one in env.records()) == ["active", "deprecated"]
    await env.lines(BLOCK, start=50)
    assert {one["prefix"].partition("/")[2] for one in env.containers()} == {"52", "54"}
    await env.change(DIRECT, OnRelease.DELETE)
    await env.deprovision("S-2", "D-2")
    assert len(await env.agree_as(DIRECT)) == BLOCK


async def test_change_returns_blocks_of_another_length(env: PoolModeEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks are left over from a change that was refused."""
    await env.start(DIRECT)
    await env.lines(2)
    await env.begin("S-9", "O-9")
    env.server.faults.next(DROPPED, method="POST", path=AVAILABLE)
    await refusal(env.allocate("S-9", "O-9"))
    with monkeypatch.context() as patience:
        patience.setattr(pool_mode_change, "ROUNDS", 1)
        with pytest.raises(PoolModeError):
            await env.change(BLOCKS)
    assert [one["prefix"] for one in env.containers()] == ["2001:db8:4000::/52"]
    await env.allocate_with_retries("S-9", "O-9")
    await env.finish("S-9", "O-9")
    await env.change(BLOCKS, length=48)
    assert [one["prefix"] for one in env.containers()] == ["2001:db8:4000::/48"]
    assert len(await env.agree_as(BLOCKS)) == 3


async def test_description_written_by_another_user_is_kept_while_held(env: PoolModeEnv) -> None:
    """For an imported prefix, the description may be all that names the subscriber to other users of NetBox."""
    await env.start(DIRECT)
    await env.lines(1)
    [record] = env.records()
    reply = await asyncio.to_thread(
        env.peer.send, "PATCH", f"{PREFIXES}{record['id']}/", {"description": "line of Ada"}
    )
    assert reply.status_code == 200
    for way in (PREFIX, DIRECT, PREFIX):
        await env.change(way)
        await env.agree_as(way)
        assert [one["description"] for one in env.records()] == ["line of Ada"]
    await env.deprovision("S-1", "D-1")
    await env.agree()
    assert [one["description"] for one in env.records()] == ["in quarantine, was S-1's (Lastmile)"]


async def test_change_with_an_unsettled_request_names_the_time_to_continue(env: PoolModeEnv) -> None:
    """After that time NetBox cannot execute the request any more."""
    await env.start(PREFIX)
    await env.maintain()
    env.server.faults.next(LOST, method="POST", path=PREFIXES)
    await env.lines(1)
    await env.report_all()
    later = "SELECT to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC') FROM netbox_records"
    with pytest.raises(PoolModeError, match=f"continues after {await env.owner.fetchval(later)}. Until then"):
        await env.change(DIRECT)
    await env.expire_waits()
    await env.change(DIRECT)
    assert len(await env.agree_as(DIRECT)) == 1


async def test_change_after_a_repair_succeeds(env: PoolModeEnv) -> None:
    """NetBox has answered, so no request can be executed late."""
    await env.start(PREFIX)
    await env.lines(2)
    await env.agree_as(PREFIX)
    for record in env.records():
        await env.delete_in_netbox(record["id"])
    assert await repaired(env) == ["", ""]
    await env.change(DIRECT)
    assert len(await env.agree_as(DIRECT)) == 2


async def test_change_clears_the_mark_of_a_full_pool(env: PoolModeEnv) -> None:
    await env.start(DIRECT)
    await env.owner.execute("UPDATE pools SET netbox_full_since = now()")
    await env.change(BLOCKS)
    assert await env.owner.fetchval("SELECT netbox_full_since FROM pools") is None
