"""What NetBox does long after whoever asked for it has given up: in the end it has what is true all the same."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ipam.netbox.binding import OnRelease, ReportingScope
from ipam.netbox.delegated.outbox import drain
from ipam.netbox.records import KEY, STATE
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import LOST
from tests.support.delegated_env import Delegated
from tests.support.direct_env import PREFIXES
from tests.support.held_requests import Held

FIRST = "2001:db8:4000::/56"


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        yield kept


@pytest.fixture
async def home(kept: Delegated) -> int:
    """A pool of which NetBox has a block, in a VRF that may have a prefix twice."""
    await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/ipam/vrfs/{kept.vrf}/", {"enforce_unique": False})
    home = await kept.pool(record=ReportingScope.PREFIX, on_release=OnRelease.DELETE)
    await kept.beat()
    return home


async def given_up(kept: Delegated) -> Held:
    """The creation of a line's record, for whose answer nobody waits any more."""
    creation = Held(kept.server, "POST", PREFIXES)
    await kept.provision()
    async with creation.given_up(kept.netbox):
        assert not await kept.beat()
    return creation


async def looked_at_once_more(kept: Delegated) -> Held:
    """The creation that a second look is about to ask for, since a person has deleted the record before."""
    await kept.provision()
    kept.server.faults.next(LOST, method="POST", path=PREFIXES)
    await kept.in_the_end()
    await kept.deleted_by_hand(kept.records()[0]["id"])
    creation = Held(kept.server, "POST", PREFIXES)
    await kept.hours_later()
    return creation


async def comes_twice_and_stays_once(kept: Delegated, creation: Held) -> None:
    await creation.done()
    assert len(kept.records()) == 2
    await kept.hours_later()
    assert await kept.beat()
    assert len(kept.records()) == 1
    assert await kept.agree() == [FIRST]


async def test_a_creation_after_the_release_leaves_nothing(kept: Delegated, home: int) -> None:
    creation = await given_up(kept)
    await kept.deprovision()
    await kept.in_the_end()
    await creation.done()
    assert len(kept.records()) == 1
    await kept.hours_later()
    assert await kept.beat()
    assert kept.records() == []
    assert await kept.agree() == []
    assert await kept.owner.fetchval("SELECT count(*) FROM netbox_records") == 0, "for ever looked for"


async def test_a_creation_after_a_second_one_that_was_lost_too(kept: Delegated, home: int) -> None:
    creation = await given_up(kept)
    kept.server.faults.next(LOST, method="POST", path=PREFIXES)
    await kept.in_the_end()
    await comes_twice_and_stays_once(kept, creation)


async def test_a_creation_by_who_looked_once_more(kept: Delegated, home: int) -> None:
    """What was only looked at is looked at again, too, where NetBox was asked for something then."""
    creation = await looked_at_once_more(kept)
    async with creation.given_up(kept.netbox):
        assert not await kept.beat()
    await kept.hours_later()
    assert await kept.beat()
    await comes_twice_and_stays_once(kept, creation)


async def test_a_creation_by_who_was_killed_when_looking_once_more(kept: Delegated, home: int) -> None:
    creation = await looked_at_once_more(kept)
    pool = await kept.the_pool()
    killed = asyncio.create_task(drain(kept.database, kept.netbox, pool))
    await creation.reached()
    await kept.owner.execute("UPDATE netbox_records SET claimed_until = now()")
    assert await drain(kept.database, kept.netbox, pool) == 1
    assert len(kept.records()) == 1
    claim = await kept.owner.fetchval("SELECT due_at FROM netbox_records")
    assert claim is not None, "for NetBox to be at work on it still"
    await creation.done()
    await killed
    await kept.in_the_end()
    await kept.hours_later()
    assert await kept.beat()
    assert await kept.agree() == [FIRST]


async def test_a_creation_after_the_deletion_of_a_second_one(kept: Delegated, home: int) -> None:
    creation = await given_up(kept)
    await kept.in_the_end()
    await kept.deprovision()
    await kept.in_the_end()
    await creation.done()
    assert len(kept.records()) == 1
    await kept.hours_later()
    assert await kept.beat()
    assert kept.records() == []


async def test_a_change_after_the_prefix_has_another_holder(kept: Delegated, home: int) -> None:
    await kept.begin()
    await kept.allocate()
    await kept.beat()
    change = Held(kept.server, "PATCH", PREFIXES)
    await kept.finish()
    async with change.given_up(kept.netbox):
        assert not await kept.beat()
    await kept.deprovision()
    assert await kept.provision("S-1", "O-2") == FIRST
    await kept.in_the_end()
    await change.done()
    await kept.hours_later()
    assert await kept.beat()
    [record] = kept.records()
    assert (record["custom_fields"][KEY], record["custom_fields"][STATE]) == ("acme/S-1/ipv6_pd/O-2", "active")
    assert await kept.agree() == [FIRST]


async def test_a_change_by_one_who_stood_still_until_another_told_netbox(kept: Delegated, home: int) -> None:
    """Its claim is over when it goes on, and NetBox is told of what is true now once more."""
    await kept.begin()
    await kept.allocate()
    await kept.beat()
    pool = await kept.the_pool()
    await kept.finish()
    change = Held(kept.server, "PATCH", PREFIXES, on_its_way=True)
    standing = asyncio.create_task(drain(kept.database, kept.netbox, pool))
    await change.reached()
    await kept.deprovision()
    assert await kept.provision("S-1", "O-2") == FIRST
    await kept.hours_later()
    assert await drain(kept.database, kept.netbox, pool) == 1
    change.go_on()
    await standing
    await kept.in_the_end()
    assert kept.records()[0]["custom_fields"][KEY] == "acme/S-1/ipv6_pd/O-2"
    assert await kept.agree() == [FIRST]
