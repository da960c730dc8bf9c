"""Requests that NetBox executes long after the client gave them up: the records become right all the same."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ipam.modes import OnRelease, ReportingScope
from ipam.netbox.delegated.outbox import drain
from ipam.netbox.records import KEY, STATE
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import LOST
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import PREFIXES
from tests.support.held_requests import HeldRequest

FIRST = "2001:db8:4000::/56"


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DelegatedEnv]:
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


@pytest.fixture
async def home(env: DelegatedEnv) -> int:
    """Add a pool with a block, in a VRF without uniqueness; return its id in NetBox."""
    await asyncio.to_thread(env.peer.send, "PATCH", f"/api/ipam/vrfs/{env.vrf}/", {"enforce_unique": False})
    home = await env.pool(record=ReportingScope.PREFIX, on_release=OnRelease.DELETE)
    await env.maintain()
    return home


async def abandoned_creation(env: DelegatedEnv) -> HeldRequest:
    """Return the held creation of a record that the client has given up."""
    creation = HeldRequest(env.server, "POST", PREFIXES)
    await env.provision()
    async with creation.abandoned_by(env.netbox):
        assert not await env.maintain()
    return creation


async def looked_at_once_more(env: DelegatedEnv) -> HeldRequest:
    """Return the held creation that a second look sends, since another user deleted the record before."""
    await env.provision()
    env.server.faults.next(LOST, method="POST", path=PREFIXES)
    await env.report_all()
    await env.delete_in_netbox(env.records()[0]["id"])
    creation = HeldRequest(env.server, "POST", PREFIXES)
    await env.expire_waits()
    return creation


async def comes_twice_and_stays_once(env: DelegatedEnv, creation: HeldRequest) -> None:
    await creation.done()
    assert len(env.records()) == 2
    await env.expire_waits()
    assert await env.maintain()
    assert len(env.records()) == 1
    assert await env.agree() == [FIRST]


async def test_creation_executed_after_the_release_leaves_no_record(env: DelegatedEnv, home: int) -> None:
    creation = await abandoned_creation(env)
    await env.deprovision()
    await env.report_all()
    await creation.done()
    assert len(env.records()) == 1
    await env.expire_waits()
    assert await env.maintain()
    assert env.records() == []
    assert await env.agree() == []
    assert await env.owner.fetchval("SELECT count(*) FROM netbox_records") == 0, "no further look follows"


async def test_creation_executed_after_a_second_lost_one_leaves_one_record(env: DelegatedEnv, home: int) -> None:
    creation = await abandoned_creation(env)
    env.server.faults.next(LOST, method="POST", path=PREFIXES)
    await env.report_all()
    await comes_twice_and_stays_once(env, creation)


async def test_creation_abandoned_by_a_second_look_leaves_one_record(env: DelegatedEnv, home: int) -> None:
    """A second look that sent a request of its own is followed by another look."""
    creation = await looked_at_once_more(env)
    async with creation.abandoned_by(env.netbox):
        assert not await env.maintain()
    await env.expire_waits()
    assert await env.maintain()
    await comes_twice_and_stays_once(env, creation)


async def test_creation_of_a_worker_with_an_expired_claim_leaves_one_record(env: DelegatedEnv, home: int) -> None:
    creation = await looked_at_once_more(env)
    pool = await env.bound_pool()
    killed = asyncio.create_task(drain(env.database, env.netbox, pool))
    await creation.reached()
    await env.owner.execute("UPDATE netbox_records SET claimed_until = now()")
    assert await drain(env.database, env.netbox, pool) == 1
    assert len(env.records()) == 1
    claim = await env.owner.fetchval("SELECT due_at FROM netbox_records")
    assert claim is not None, "NetBox may still execute the request"
    await creation.done()
    await killed
    await env.report_all()
    await env.expire_waits()
    assert await env.maintain()
    assert await env.agree() == [FIRST]


async def test_creation_executed_after_the_deletion_leaves_no_record(env: DelegatedEnv, home: int) -> None:
    creation = await abandoned_creation(env)
    await env.report_all()
    await env.deprovision()
    await env.report_all()
    await creation.done()
    assert len(env.records()) == 1
    await env.expire_waits()
    assert await env.maintain()
    assert env.records() == []


async def test_change_executed_late_does_not_overwrite_the_next_holder(env: DelegatedEnv, home: int) -> None:
    await env.begin()
    await env.allocate()
    await env.maintain()
    change = HeldRequest(env.server, "PATCH", PREFIXES)
    await env.finish()
    async with change.abandoned_by(env.netbox):
        assert not await env.maintain()
    await env.deprovision()
    assert await env.provision("S-1", "O-2") == FIRST
    await env.report_all()
    await change.done()
    await env.expire_waits()
    assert await env.maintain()
    [record] = env.records()
    assert (record["custom_fields"][KEY], record["custom_fields"][STATE]) == ("acme/S-1/ipv6_pd/O-2", "active")
    assert await env.agree() == [FIRST]


async def test_change_of_a_stalled_worker_is_overwritten_by_the_next_report(env: DelegatedEnv, home: int) -> None:
    """The claim of the stalled worker has expired when it continues, so the prefix is reported once more."""
    await env.begin()
    await env.allocate()
    await env.maintain()
    pool = await env.bound_pool()
    await env.finish()
    change = HeldRequest(env.server, "PATCH", PREFIXES, before_arrival=True)
    standing = asyncio.create_task(drain(env.database, env.netbox, pool))
    await change.reached()
    await env.deprovision()
    assert await env.provision("S-1", "O-2") == FIRST
    await env.expire_waits()
    assert await drain(env.database, env.netbox, pool) == 1
    change.resume()
    await standing
    await env.report_all()
    assert env.records()[0]["custom_fields"][KEY] == "acme/S-1/ipv6_pd/O-2"
    assert await env.agree() == [FIRST]
