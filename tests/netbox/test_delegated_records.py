"""A delegated pool whose every prefix is in NetBox: told in the background, in the end just right, whatever is lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import event

from ipam.netbox import NetBox
from ipam.netbox.binding import OnRelease, ReportingScope
from ipam.netbox.delegated import block_maintenance as keeper_module
from ipam.netbox.delegated import outbox as outbox_module
from ipam.netbox.delegated.block_maintenance import BEAT, BlockMaintenance
from ipam.netbox.delegated.outbox import backlog, drain
from ipam.netbox.records import KEY, STATE, SUBSCRIBER
from lastmile.audit.audit import check
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import CUT, DROPPED, LOST, POSTGRES_DOWN, REDIS_LOST, Fault, proxy
from tests.support.delegated_env import Delegated
from tests.support.direct_env import PREFIXES
from tests.support.held_requests import Held
from tests.support.steps import QUARANTINE

FIRST = "2001:db8:4000::/56"


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        yield kept


@pytest.fixture
async def home(kept: Delegated) -> int:
    return await kept.pool(record=ReportingScope.PREFIX)


class Clock:
    """Goes on when it is told to."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def goes_on(self) -> None:
        self.seconds += 1


async def test_pools_are_told_of_in_turn(kept: Delegated, home: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for module in (keeper_module, outbox_module):
        monkeypatch.setattr(module, "time", clock)
    await kept.pool("2001:db8:5000::/40", "more", record=ReportingScope.PREFIX)

    async def line(ref: str, order: str, pool: str) -> None:
        await kept.begin(ref, order)
        await kept.allocate(ref, order, ipv6_pool=pool)

    await line("S-1", "O-1", "home")
    await line("S-2", "O-2", "more")
    keeper = BlockMaintenance(kept.database, kept.netbox, QUARANTINE.unconfirmed)
    slow, short = Fault(delay=clock.goes_on), timedelta(seconds=0.5)
    for told in ({"S-1"}, {"S-1", "S-2"}):
        kept.server.faults.next(slow, method="POST", path=PREFIXES)
        await keeper.beat(telling=short)
        assert {one["custom_fields"][SUBSCRIBER] for one in kept.records()} == told
        assert keeper.pause == timedelta(0), "there may be more to tell"
        if told == {"S-1"}:
            await line("S-3", "O-3", "home")
    await keeper.beat()
    assert keeper.pause == BEAT


async def state_there(kept: Delegated, key: str = "acme/S-1/ipv6_pd/O-1") -> tuple[str, str] | None:
    record = kept.record(key)
    return record and (record["status"], record["custom_fields"][STATE])


async def test_the_way_of_a_prefix(kept: Delegated, home: int) -> None:
    await kept.begin()
    await kept.allocate()
    assert kept.records() == [], "not within the order"
    await kept.beat()
    assert await state_there(kept) == ("reserved", "allocated")
    await kept.activate()
    await kept.close()
    await kept.beat()
    assert await state_there(kept) == ("active", "active")
    assert await kept.agree() == [FIRST]

    await kept.deprovision()
    assert await kept.agree() == []
    assert await state_there(kept) == ("deprecated", "revoked"), "it rests"
    await kept.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now()")
    await kept.hours_later()
    assert await kept.agree() == []
    assert kept.records() == []
    assert await kept.owner.fetchval("SELECT count(*) FROM netbox_records") == 0


async def test_a_pool_whose_releases_are_deleted(kept: Delegated) -> None:
    await kept.pool(record=ReportingScope.PREFIX, on_release=OnRelease.DELETE)
    await kept.provision()
    await kept.agree()
    await kept.deprovision()
    assert await kept.agree() == []
    assert kept.records() == []


async def test_who_comes_back_has_the_one_record(kept: Delegated, home: int) -> None:
    await kept.provision()
    await kept.agree()
    [record] = kept.records()
    await kept.deprovision()
    assert await kept.provision("S-1", "O-2") == FIRST
    assert await kept.agree() == [FIRST]
    [again] = kept.records()
    assert (again["id"], again["custom_fields"][KEY]) == (record["id"], "acme/S-1/ipv6_pd/O-2")


async def test_a_pool_that_tells_of_blocks_alone_has_no_outbox(kept: Delegated) -> None:
    await kept.pool()
    await kept.provision()
    assert await kept.owner.fetchval("SELECT count(*) FROM netbox_records") == 0


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("fault", [LOST, CUT, REDIS_LOST, DROPPED, POSTGRES_DOWN, proxy(503)])
async def test_what_is_lost_on_the_way(kept: Delegated, fault: Fault, method: str) -> None:
    await kept.pool(record=ReportingScope.PREFIX, on_release=OnRelease.DELETE)
    await kept.beat()  # the block
    kept.server.faults.next(fault, method=method, path=PREFIXES)
    await kept.begin()
    await kept.allocate()
    await kept.in_the_end()
    await kept.finish()
    await kept.in_the_end()
    await kept.deprovision()
    await kept.in_the_end()
    assert kept.server.faults.met[fault] == 1
    assert await kept.agree() == []
    assert kept.records() == []


async def test_a_creation_that_netbox_ends_late_leaves_one_record(kept: Delegated, home: int) -> None:
    """The client gives up, looks, finds nothing and creates; then both are there, and the second look removes one."""
    await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/ipam/vrfs/{kept.vrf}/", {"enforce_unique": False})
    await kept.beat()
    creation = Held(kept.server, path=PREFIXES)
    await kept.provision()
    async with creation.given_up(kept.netbox):
        assert not await kept.beat()
    await kept.in_the_end()
    assert len(kept.records()) == 1
    await creation.done()
    assert len(kept.records()) == 2
    await kept.hours_later()
    assert await kept.agree() == [FIRST]
    assert len(kept.records()) == 1


async def test_netbox_away_and_back(kept: Delegated, home: int) -> None:
    await kept.beat()
    kept.server.stop()
    given = await kept.lines(8)
    assert not await kept.beat()
    async with kept.database.platform() as platform:
        behind = await backlog(platform, await kept.the_pool())
    assert (behind.waiting, behind.refused) == (8, 0)
    assert behind.lag > timedelta(0)
    kept.server.start()
    assert sorted(await kept.agree()) == sorted(given)
    async with kept.database.platform() as platform:
        behind = await backlog(platform, await kept.the_pool())
    assert (behind.waiting, behind.lag) == (0, timedelta(0))


async def test_a_drain_that_is_cut_off_goes_on_elsewhere(kept: Delegated, home: int, owner_url: str) -> None:
    given = await kept.lines(12)
    pool = await kept.the_pool()
    kept.server.faults.next(Fault(), method="POST", path=PREFIXES, times=3)
    creation = Held(kept.server, path=PREFIXES)
    async with NetBox(kept.server.url, kept.server.token) as netbox:  # which waits at its end for what is under way
        task = asyncio.create_task(drain(kept.database, netbox, pool))
        await creation.reached()
        task.cancel()
        await asyncio.wait([task])
        creation.go_on()
    assert await kept.owner.fetchval("SELECT count(*) FROM netbox_records WHERE since IS NOT NULL") > 0
    other = Database(owner_url)
    async with NetBox(kept.server.url, kept.server.token) as netbox:
        while await kept.owner.fetchval("SELECT count(*) FROM netbox_records WHERE since IS NOT NULL"):
            await drain(other, netbox, pool)
            await kept.hours_later()  # the claims of the one that was killed are over
    await other.close()
    assert sorted(await kept.agree()) == sorted(given)


async def test_a_keeper_that_ends_leaves_nothing_claimed(kept: Delegated, home: int) -> None:
    """So that whoever comes next goes on at once: a deployment ends every keeper."""
    given = await kept.lines(12)
    creation = Held(kept.server, path=PREFIXES)
    async with NetBox(kept.server.url, kept.server.token) as netbox:
        async with BlockMaintenance(kept.database, netbox, QUARANTINE.unconfirmed):
            await creation.reached()
        creation.go_on()
    claimed, soon, later = await kept.owner.fetchrow(
        """
        SELECT count(claimed_until), count(*) FILTER (WHERE due_at <= now()),
               count(*) FILTER (WHERE due_at > now() + interval '2 seconds')
        FROM netbox_records WHERE since IS NOT NULL
        """
    )
    assert (claimed, later) == (0, 0)
    assert soon > 0
    await kept.in_the_end()
    assert sorted(await kept.agree()) == sorted(given)


async def test_who_is_stopped_while_it_claims_leaves_nothing_claimed(kept: Delegated, home: int) -> None:
    """The claim is on its way to be committed, and whether it was nobody hears."""
    given = await kept.lines(16)
    drains = [asyncio.create_task(drain(kept.database, kept.netbox, await kept.the_pool()))]
    stopped, loop = list(drains), asyncio.get_running_loop()

    def stop(_: object) -> None:
        if drains:
            loop.call_soon(drains.pop().cancel)  # once COMMIT is sent

    event.listen(kept.database.engine.sync_engine, "commit", stop)
    await asyncio.wait(stopped)
    assert not drains
    assert await kept.owner.fetchval("SELECT count(claimed_until) FROM netbox_records") == 0
    assert sorted(await kept.agree()) == sorted(given)


async def test_two_drains_at_once_write_each_prefix_once(kept: Delegated, home: int) -> None:
    given = await kept.lines(16)
    pool = await kept.the_pool()
    told = await asyncio.gather(*(drain(kept.database, kept.netbox, pool) for _ in range(3)))
    assert sum(told) == len(given)
    assert sorted(await kept.agree()) == sorted(given)


async def test_a_change_while_netbox_is_told_is_told_too(kept: Delegated, home: int) -> None:
    await kept.beat()
    await kept.begin()
    await kept.allocate()
    creation = Held(kept.server, path=PREFIXES, on_its_way=True)
    draining = asyncio.create_task(drain(kept.database, kept.netbox, await kept.the_pool()))
    await creation.reached()
    await kept.finish()
    creation.go_on()
    await draining
    assert await kept.agree() == [FIRST]
    assert await state_there(kept) == ("active", "active")


async def test_a_record_that_was_deleted_by_hand_is_made_again(kept: Delegated, home: int) -> None:
    await kept.begin()
    await kept.allocate()
    await kept.beat()
    await kept.deleted_by_hand(kept.records()[0]["id"])
    await kept.finish()
    assert await kept.agree() == [FIRST]


async def test_what_netbox_refuses_is_said_and_holds_up_nobody(kept: Delegated, home: int) -> None:
    """A person has the prefix in NetBox: their record is left alone."""
    await kept.beat()
    theirs = await kept.by_hand(FIRST)
    await kept.provision()
    await kept.provision("S-2", "O-2")
    assert await kept.beat()
    async with kept.database.platform() as platform:
        behind = await backlog(platform, await kept.the_pool())
    assert (behind.waiting, behind.refused) == (1, 1)
    found = [one async for one in check(kept.database)]
    assert [one.subject for one in found if one.invariant.name == "behind_in_netbox"] == [FIRST]
    assert {one["id"]: one["custom_fields"].get(KEY) for one in kept.records()}[theirs] is None

    await kept.deleted_by_hand(theirs)
    await kept.hours_later()
    assert len(await kept.agree()) == 2
