"""What NetBox does long after whoever asked for it has given up: in the end it has what is true all the same."""

import asyncio
import threading
from collections.abc import AsyncIterator

import asyncpg
import pytest

from devstack.netbox import NetBoxServer
from devstack.netbox.faults import LOST, Fault
from ipam.binding import OnRelease, Record
from ipam.netbox.records import KEY, STATE
from tests.netbox.kept import PREFIXES
from tests.netbox.shared_out import Delegated

FIRST = "2001:db8:4000::/56"


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin, read_timeout=1.5) as kept:
        yield kept


class Late:
    """A request that NetBox has checked, and commits when it is let go."""

    def __init__(self, kept: Delegated) -> None:
        self._kept = kept
        self._arrived = asyncio.Event()
        self._go_on = threading.Event()
        self._loop = asyncio.get_running_loop()

    def hold(self) -> None:
        self._loop.call_soon_threadsafe(self._arrived.set)
        assert self._go_on.wait(60)

    async def lets_go(self) -> None:
        """Until it is done; NetBox tells nobody."""
        before = self._changes()
        self._go_on.set()
        while True:
            if self._changes() > before:
                return
            await asyncio.sleep(0.01)

    def _changes(self) -> int:
        with self._kept.server.store.lock:
            return len(list(self._kept.server.store.all("core.objectchange")))


def late(kept: Delegated, method: str) -> Late:
    """The next one of this method."""
    one = Late(kept)
    kept.server.faults.next(Fault(hold=one.hold), method=method, path=PREFIXES)
    return one


@pytest.fixture
async def home(kept: Delegated) -> int:
    """A pool of which NetBox has a block, in a VRF that may have a prefix twice."""
    await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/ipam/vrfs/{kept.vrf}/", {"enforce_unique": False})
    home = await kept.pool(record=Record.PREFIX, on_release=OnRelease.DELETE)
    await kept.beat()
    return home


async def test_a_creation_after_the_release_leaves_nothing(kept: Delegated, home: int) -> None:
    creation = late(kept, "POST")
    await kept.provision()
    assert not await kept.beat()
    await kept.deprovision()
    await kept.in_the_end()
    await creation.lets_go()
    assert len(kept.records()) == 1
    await kept.hours_later()
    assert await kept.beat()
    assert kept.records() == []
    assert await kept.agree() == []
    assert await kept.owner.fetchval("SELECT count(*) FROM netbox_records") == 0, "for ever looked for"


async def test_a_creation_after_a_second_one_that_was_lost_too(kept: Delegated, home: int) -> None:
    creation = late(kept, "POST")
    await kept.provision()
    assert not await kept.beat()
    kept.server.faults.next(LOST, method="POST", path=PREFIXES)
    await kept.in_the_end()
    await creation.lets_go()
    assert len(kept.records()) == 2
    await kept.hours_later()
    assert await kept.beat()
    assert len(kept.records()) == 1
    assert await kept.agree() == [FIRST]


async def test_a_creation_after_the_deletion_of_a_second_one(kept: Delegated, home: int) -> None:
    creation = late(kept, "POST")
    await kept.provision()
    assert not await kept.beat()
    await kept.in_the_end()
    await kept.deprovision()
    await kept.in_the_end()
    await creation.lets_go()
    assert len(kept.records()) == 1
    await kept.hours_later()
    assert await kept.beat()
    assert kept.records() == []


async def test_a_change_after_the_prefix_has_another_holder(kept: Delegated, home: int) -> None:
    await kept.begin()
    await kept.allocate()
    await kept.beat()
    change = late(kept, "PATCH")
    await kept.finish()
    assert not await kept.beat()
    await kept.deprovision()
    assert await kept.provision("S-1", "O-2") == FIRST
    await kept.in_the_end()
    await change.lets_go()
    await kept.hours_later()
    assert await kept.beat()
    [record] = kept.records()
    assert (record["custom_fields"][KEY], record["custom_fields"][STATE]) == ("acme/S-1/ipv6_pd/O-2", "active")
    assert await kept.agree() == [FIRST]
