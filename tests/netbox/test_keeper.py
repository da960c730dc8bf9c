"""A keeper goes on with the rest of its work, whatever part of it cannot be done."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ipam.netbox import NetBox
from ipam.netbox.binding import ReportingScope
from ipam.netbox.delegated.block_maintenance import BlockMaintenance
from ipam.netbox.records import KEY, USED
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import LOST
from tests.support.delegated_env import Delegated
from tests.support.direct_env import PREFIXES
from tests.support.held_requests import Held
from tests.support.steps import QUARANTINE

BLOCK = 16


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        yield kept


async def test_a_pool_without_a_further_block_is_kept_all_the_same(kept: Delegated) -> None:
    await kept.pool("2001:db8:4000::/51", record=ReportingScope.PREFIX)
    given = await kept.lines(2 * BLOCK - 2)
    assert not await kept.beat(), "there is something to repair"
    assert sorted(one["prefix"] for one in kept.records()) == sorted(given)
    assert [one["custom_fields"][USED] for one in kept.containers()] == [BLOCK, BLOCK - 2]


async def test_a_pool_that_was_deleted_by_hand_is_kept_all_the_same(kept: Delegated) -> None:
    home = await kept.pool(record=ReportingScope.PREFIX)
    await kept.beat()
    await kept.deleted_by_hand(home)
    given = await kept.lines(BLOCK - 2)
    assert not await kept.beat(), "there is something to repair"
    assert sorted(one["prefix"] for one in kept.records()) == sorted(given)


async def test_a_block_that_cannot_be_put_right_holds_up_nothing_else(kept: Delegated) -> None:
    await kept.pool(record=ReportingScope.PREFIX)
    await kept.provision()
    await kept.beat()
    [block] = kept.containers()
    theirs = {"custom_fields": {KEY: "x"}, "description": "mine"}
    assert (await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{block['id']}/", theirs)).status_code == 200
    given = await kept.lines(2, start=2)
    assert not await kept.beat()
    assert {one["prefix"] for one in kept.records()} >= set(given)


async def test_one_pool_that_cannot_be_kept_holds_up_no_other(kept: Delegated) -> None:
    first = await kept.pool("2001:db8:4000::/40", "first", record=ReportingScope.PREFIX)
    await kept.pool("2001:db8:8000::/40", "second", record=ReportingScope.PREFIX)
    await kept.deleted_by_hand(first)
    assert not await kept.beat()
    await kept.begin()
    prefix = await kept.allocate(ipv6_pool="second")
    await kept.finish()
    await kept.beat()
    assert [one["prefix"] for one in kept.records()] == [prefix]


async def test_a_figure_whose_way_back_was_lost_is_put_right(kept: Delegated) -> None:
    await kept.pool()
    await kept.agree()
    await kept.provision()
    kept.server.faults.next(LOST, method="PATCH", times=3)  # the client tries that often
    assert not await kept.beat()
    assert [one["custom_fields"][USED] for one in kept.containers()] == [1]
    await kept.deprovision()
    await kept.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now()")
    assert await kept.agree() == []
    assert [one["custom_fields"][USED] for one in kept.containers()] == [0]


async def test_what_cannot_be_taken_is_not_asked_for_each_second(kept: Delegated) -> None:
    await kept.pool("2001:db8:4000::/51")
    await kept.lines(2 * BLOCK - 2)
    keeper = BlockMaintenance(kept.database, kept.netbox, QUARANTINE.unconfirmed)
    assert not await keeper.beat()
    kept.server.faults.chance(LOST, 1)
    for _ in range(3):
        assert await keeper.beat()
    assert not kept.server.faults.met


async def test_what_nobody_has_foreseen_ends_no_keeper(kept: Delegated) -> None:
    await kept.pool()
    await kept.owner.execute("ALTER TABLE pools DROP CONSTRAINT pools_netbox_release_check")
    await kept.owner.execute("UPDATE pools SET netbox_release = 'as a later version does'")
    assert not await kept.beat()


LOSE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'lastmile'
"""


async def test_a_keeper_ends_when_the_database_has_just_gone(kept: Delegated) -> None:
    """What fails on the way out is no reason to go on: a worker would wait for it for ever."""
    await kept.pool(record=ReportingScope.PREFIX)
    await kept.lines(2)
    creation = Held(kept.server, path=PREFIXES)
    async with NetBox(kept.server.url, kept.server.token) as netbox, asyncio.timeout(30):
        async with BlockMaintenance(kept.database, netbox, QUARANTINE.unconfirmed):
            await creation.reached()
            assert await kept.owner.fetchval(LOSE) > 0
        creation.go_on()
