"""The outbox of a delegated pool that records every prefix: the records become right after any lost request."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import event

from ipam.modes import OnRelease, ReportingScope
from ipam.netbox import NetBox
from ipam.netbox.delegated import block_maintenance as maintenance_module
from ipam.netbox.delegated import outbox as outbox_module
from ipam.netbox.delegated.block_maintenance import INTERVAL, BlockMaintenance
from ipam.netbox.delegated.outbox import backlog, drain
from ipam.netbox.records import KEY, STATE, SUBSCRIBER
from lastmile.audit.audit import check
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import CUT, DROPPED, LOST, POSTGRES_DOWN, REDIS_LOST, Fault, proxy
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import PREFIXES
from tests.support.held_requests import HeldRequest
from tests.support.steps import QUARANTINE

FIRST = "2001:db8:4000::/56"


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DelegatedEnv]:
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


@pytest.fixture
async def home(env: DelegatedEnv) -> int:
    return await env.pool(record=ReportingScope.PREFIX)


class Clock:
    """A clock that advances only when the test says so."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def goes_on(self) -> None:
        self.seconds += 1


async def test_reports_of_several_pools_take_turns(
    env: DelegatedEnv, home: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for module in (maintenance_module, outbox_module):
        monkeypatch.setattr(module, "time", clock)
    await env.pool("2001:db8:5000::/40", "more", record=ReportingScope.PREFIX)

    async def line(ref: str, order: str, pool: str) -> None:
        await env.begin(ref, order)
        await env.allocate(ref, order, ipv6_pool=pool)

    await line("S-1", "O-1", "home")
    await line("S-2", "O-2", "more")
    maintenance = BlockMaintenance(env.database, env.netbox, QUARANTINE.unconfirmed)
    slow, short = Fault(delay=clock.goes_on), timedelta(seconds=0.5)
    for reported in ({"S-1"}, {"S-1", "S-2"}):
        env.server.faults.next(slow, method="POST", path=PREFIXES)
        await maintenance.run_once(report_time=short)
        assert {one["custom_fields"][SUBSCRIBER] for one in env.records()} == reported
        assert maintenance.pause == timedelta(0), "more may be due"
        if reported == {"S-1"}:
            await line("S-3", "O-3", "home")
    await maintenance.run_once()
    assert maintenance.pause == INTERVAL


async def state_there(env: DelegatedEnv, key: str = "acme/S-1/ipv6_pd/O-1") -> tuple[str, str] | None:
    record = env.record(key)
    return record and (record["status"], record["custom_fields"][STATE])


async def test_prefix_record_follows_the_lifecycle(env: DelegatedEnv, home: int) -> None:
    await env.begin()
    await env.allocate()
    assert env.records() == [], "the order does not report it"
    await env.maintain()
    assert await state_there(env) == ("reserved", "allocated")
    await env.activate()
    await env.close()
    await env.maintain()
    assert await state_there(env) == ("active", "active")
    assert await env.agree() == [FIRST]

    await env.deprovision()
    assert await env.agree() == []
    assert await state_there(env) == ("deprecated", "revoked"), "in quarantine"
    await env.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now()")
    await env.expire_waits()
    assert await env.agree() == []
    assert env.records() == []
    assert await env.owner.fetchval("SELECT count(*) FROM netbox_records") == 0


async def test_release_in_a_pool_that_deletes_removes_the_record(env: DelegatedEnv) -> None:
    await env.pool(record=ReportingScope.PREFIX, on_release=OnRelease.DELETE)
    await env.provision()
    await env.agree()
    await env.deprovision()
    assert await env.agree() == []
    assert env.records() == []


async def test_returning_subscriber_keeps_the_same_record(env: DelegatedEnv, home: int) -> None:
    await env.provision()
    await env.agree()
    [record] = env.records()
    await env.deprovision()
    assert await env.provision("S-1", "O-2") == FIRST
    assert await env.agree() == [FIRST]
    [again] = env.records()
    assert (again["id"], again["custom_fields"][KEY]) == (record["id"], "acme/S-1/ipv6_pd/O-2")


async def test_pool_that_records_blocks_only_has_no_outbox(env: DelegatedEnv) -> None:
    await env.pool()
    await env.provision()
    assert await env.owner.fetchval("SELECT count(*) FROM netbox_records") == 0


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("fault", [LOST, CUT, REDIS_LOST, DROPPED, POSTGRES_DOWN, proxy(503)])
async def test_report_with_a_fault_leaves_the_expected_records(env: DelegatedEnv, fault: Fault, method: str) -> None:
    await env.pool(record=ReportingScope.PREFIX, on_release=OnRelease.DELETE)
    await env.maintain()  # the block
    env.server.faults.next(fault, method=method, path=PREFIXES)
    await env.begin()
    await env.allocate()
    await env.report_all()
    await env.finish()
    await env.report_all()
    await env.deprovision()
    await env.report_all()
    assert env.server.faults.met[fault] == 1
    assert await env.agree() == []
    assert env.records() == []


async def test_late_duplicate_of_a_creation_is_deleted(env: DelegatedEnv, home: int) -> None:
    """The client gives up, finds no record and creates a second one. The next look deletes one of the two."""
    await asyncio.to_thread(env.peer.send, "PATCH", f"/api/ipam/vrfs/{env.vrf}/", {"enforce_unique": False})
    await env.maintain()
    creation = HeldRequest(env.server, path=PREFIXES)
    await env.provision()
    async with creation.abandoned_by(env.netbox):
        assert not await env.maintain()
    await env.report_all()
    assert len(env.records()) == 1
    await creation.done()
    assert len(env.records()) == 2
    await env.expire_waits()
    assert await env.agree() == [FIRST]
    assert len(env.records()) == 1


async def test_reports_wait_while_netbox_is_unreachable(env: DelegatedEnv, home: int) -> None:
    await env.maintain()
    env.server.stop()
    given = await env.lines(8)
    assert not await env.maintain()
    async with env.database.platform() as platform:
        behind = await backlog(platform, await env.bound_pool())
    assert (behind.waiting, behind.refused) == (8, 0)
    assert behind.lag > timedelta(0)
    env.server.start()
    assert sorted(await env.agree()) == sorted(given)
    async with env.database.platform() as platform:
        behind = await backlog(platform, await env.bound_pool())
    assert (behind.waiting, behind.lag) == (0, timedelta(0))


async def test_cancelled_drain_is_continued_by_another_worker(env: DelegatedEnv, home: int, owner_url: str) -> None:
    given = await env.lines(12)
    pool = await env.bound_pool()
    env.server.faults.next(Fault(), method="POST", path=PREFIXES, times=3)
    creation = HeldRequest(env.server, path=PREFIXES)
    async with NetBox(env.server.url, env.server.token) as netbox:  # its end waits for open requests
        task = asyncio.create_task(drain(env.database, netbox, pool))
        await creation.reached()
        task.cancel()
        await asyncio.wait([task])
        creation.resume()
    assert await env.owner.fetchval("SELECT count(*) FROM netbox_records WHERE since IS NOT NULL") > 0
    other = Database(owner_url)
    async with NetBox(env.server.url, env.server.token) as netbox:
        while await env.owner.fetchval("SELECT count(*) FROM netbox_records WHERE since IS NOT NULL"):
            await drain(other, netbox, pool)
            await env.expire_waits()  # the claims of the cancelled drain expire
    await other.close()
    assert sorted(await env.agree()) == sorted(given)


async def test_stopped_block_maintenance_leaves_no_claims(env: DelegatedEnv, home: int) -> None:
    """The next worker continues at once: a deployment stops the maintenance of every worker."""
    given = await env.lines(12)
    creation = HeldRequest(env.server, path=PREFIXES)
    async with NetBox(env.server.url, env.server.token) as netbox:
        async with BlockMaintenance(env.database, netbox, QUARANTINE.unconfirmed):
            await creation.reached()
        creation.resume()
    claimed, soon, later = await env.owner.fetchrow(
        """
        SELECT count(claimed_until), count(*) FILTER (WHERE due_at <= now()),
               count(*) FILTER (WHERE due_at > now() + interval '2 seconds')
        FROM netbox_records WHERE since IS NOT NULL
        """
    )
    assert (claimed, later) == (0, 0)
    assert soon > 0
    await env.report_all()
    assert sorted(await env.agree()) == sorted(given)


async def test_drain_cancelled_while_claiming_leaves_no_claims(env: DelegatedEnv, home: int) -> None:
    """The drain is cancelled while COMMIT is sent, so it does not know whether the claim was committed."""
    given = await env.lines(16)
    drains = [asyncio.create_task(drain(env.database, env.netbox, await env.bound_pool()))]
    stopped, loop = list(drains), asyncio.get_running_loop()

    def stop(_: object) -> None:
        if drains:
            loop.call_soon(drains.pop().cancel)  # once COMMIT is sent

    event.listen(env.database.engine.sync_engine, "commit", stop)
    await asyncio.wait(stopped)
    assert not drains
    assert await env.owner.fetchval("SELECT count(claimed_until) FROM netbox_records") == 0
    assert sorted(await env.agree()) == sorted(given)


async def test_concurrent_drains_report_each_prefix_once(env: DelegatedEnv, home: int) -> None:
    given = await env.lines(16)
    pool = await env.bound_pool()
    reported = await asyncio.gather(*(drain(env.database, env.netbox, pool) for _ in range(3)))
    assert sum(reported) == len(given)
    assert sorted(await env.agree()) == sorted(given)


async def test_change_during_a_report_is_reported_next(env: DelegatedEnv, home: int) -> None:
    await env.maintain()
    await env.begin()
    await env.allocate()
    creation = HeldRequest(env.server, path=PREFIXES, before_arrival=True)
    draining = asyncio.create_task(drain(env.database, env.netbox, await env.bound_pool()))
    await creation.reached()
    await env.finish()
    creation.resume()
    await draining
    assert await env.agree() == [FIRST]
    assert await state_there(env) == ("active", "active")


async def test_record_deleted_in_netbox_is_created_again(env: DelegatedEnv, home: int) -> None:
    await env.begin()
    await env.allocate()
    await env.maintain()
    await env.delete_in_netbox(env.records()[0]["id"])
    await env.finish()
    assert await env.agree() == [FIRST]


async def test_refused_report_is_shown_and_delays_no_other(env: DelegatedEnv, home: int) -> None:
    """A foreign prefix occupies the prefix in NetBox, and stays unchanged."""
    await env.maintain()
    foreign = await env.create_foreign_prefix(FIRST)
    await env.provision()
    await env.provision("S-2", "O-2")
    assert await env.maintain()
    async with env.database.platform() as platform:
        behind = await backlog(platform, await env.bound_pool())
    assert (behind.waiting, behind.refused) == (1, 1)
    found = [one async for one in check(env.database)]
    assert [one.subject for one in found if one.invariant.name == "behind_in_netbox"] == [FIRST]
    assert {one["id"]: one["custom_fields"].get(KEY) for one in env.records()}[foreign] is None

    await env.delete_in_netbox(foreign)
    await env.expire_waits()
    assert len(await env.agree()) == 2
