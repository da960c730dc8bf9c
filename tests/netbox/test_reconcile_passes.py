"""How a pass goes: by pages, as little as has changed, and beside orders that run at the same moment."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from ipam.netbox import NetBox
from ipam.netbox.errors import NetBoxError
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.reconcile.run import differences
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import Fault
from tests.support.direct_env import PREFIXES, Kept
from tests.support.held_requests import Held
from tests.support.reconciliation import found, kinds, repaired

FIRST = "2001:db8:4000::/56"


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Kept]:
    async with Kept.serving(owner_url, owner, standin) as kept:
        yield kept


async def lines(kept: Kept, number: int, start: int = 1) -> None:
    for n in range(start, start + number):
        await kept.provision(f"S-{n}", f"O-{n}")


async def changes(kept: Kept, n: int, **attributes: Any) -> None:
    record = kept.record(f"acme/S-{n}/ipv6_pd/O-{n}")
    assert record is not None
    reply = await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{record['id']}/", attributes)
    assert reply.status_code == 200, reply.text


async def deletes(kept: Kept, n: int) -> None:
    record = kept.record(f"acme/S-{n}/ipv6_pd/O-{n}")
    assert record is not None
    reply = await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{record['id']}/")
    assert reply.status_code == 204


async def long_ago(kept: Kept) -> None:
    """All that has been done was done before the last pass, whatever the margin."""
    later = "now() + interval '1 hour'"
    await kept.owner.execute(f"UPDATE netbox_comparisons SET since = {later}")


class Asked:
    """Counts what NetBox is asked."""

    def __init__(self, kept: Kept) -> None:
        self.requests: Counter[str] = Counter()
        for method in ("GET", "POST", "PATCH", "DELETE"):
            counted = Fault(delay=lambda method=method: self.requests.update([method]))
            kept.server.faults.chance(counted, 1, method=method, path=PREFIXES)


# By pages


@pytest.mark.parametrize("page", [1, 2, 3, 500])
async def test_pages_of_any_size_find_the_same(kept: Kept, page: int) -> None:
    await kept.pool()
    await lines(kept, 6)
    for n in (1, 3, 6):
        await deletes(kept, n)
    for n in (2, 5):
        await changes(kept, n, status="reserved")
    missing = [(DifferenceKind.MISSING, f"2001:db8:4000:{n}00::/56".replace(":000::", "::")) for n in (0, 2, 5)]
    drift = [(DifferenceKind.DRIFT, f"2001:db8:4000:{n}00::/56") for n in (1, 4)]
    assert await kinds(kept, everything=True, page=page) == sorted(missing + drift)


async def test_all_is_gone(kept: Kept) -> None:
    await kept.pool()
    await lines(kept, 5)
    for n in range(1, 6):
        await deletes(kept, n)
    assert [kind for kind, _ in await kinds(kept, page=2)] == [DifferenceKind.MISSING] * 5
    assert await repaired(kept) == [""] * 5
    await kept.agree()


# As little as has changed


async def test_a_pass_asks_for_what_has_changed(kept: Kept) -> None:
    """However many prefixes there are: the pool's own, a number, and the page of what has changed."""
    await kept.pool()
    await lines(kept, 20)
    assert await kinds(kept, page=5) == []
    await long_ago(kept)
    asked = Asked(kept)
    assert await kinds(kept, page=5) == []
    assert asked.requests == {"GET": 3}, "the pool, the number, and a page without changes"

    later = "2999-01-01T00:00:00Z"
    with kept.server.store.transaction():
        record = kept.record("acme/S-7/ipv6_pd/O-7")
        assert record is not None
        kept.server.store.replace("ipam.prefix", {**record, "status": "reserved", "last_updated": later})
    asked.requests.clear()
    assert await kinds(kept, page=5) == [(DifferenceKind.DRIFT, "2001:db8:4000:600::/56")]
    assert asked.requests == {"GET": 4}, "as before, and a look at the changed prefix"

    asked.requests.clear()
    await kinds(kept, everything=True, page=5)
    assert asked.requests["GET"] > 4, "everything"


async def test_what_is_missed_by_its_number_alone(kept: Kept) -> None:
    await kept.pool()
    await lines(kept, 4)
    assert await kinds(kept) == []
    await long_ago(kept)
    await deletes(kept, 2)
    assert await kinds(kept) == [(DifferenceKind.MISSING, "2001:db8:4000:100::/56")]
    await long_ago(kept)
    assert await kinds(kept) == [(DifferenceKind.MISSING, "2001:db8:4000:100::/56")], "until it is repaired"
    assert await repaired(kept) == [""]
    await kept.agree()


async def test_what_is_missed_beside_one_too_many(kept: Kept) -> None:
    """A copy, as NetBox makes it with all tags, in place of what was deleted: their number is right."""
    await kept.pool()
    await lines(kept, 6)
    await kept.owner.execute("UPDATE delegations SET state_since = state_since - interval '1 hour'")
    await kinds(kept)
    await long_ago(kept)
    await deletes(kept, 3)
    copy = {"prefix": "2001:db8:4000:f000::/56", "vrf": kept.vrf, "tags": [{"slug": "lastmile"}]}
    made = await asyncio.to_thread(kept.peer.create, PREFIXES, **copy)
    with kept.server.store.transaction():
        record = next(one for one in kept.records() if one["id"] == made["id"])
        kept.server.store.replace("ipam.prefix", {**record, "last_updated": "2999-01-01T00:00:00Z"})
    there = [(DifferenceKind.MISSING, "2001:db8:4000:200::/56"), (DifferenceKind.ORPHAN, "2001:db8:4000:f000::/56")]
    assert await kinds(kept) == there
    assert await kinds(kept) == there


async def test_what_was_found_is_looked_at_again(kept: Kept) -> None:
    """Although it is long ago that it changed, and nothing is missed."""
    await kept.pool()
    await lines(kept, 2)
    assert await kinds(kept) == []
    await changes(kept, 1, status="reserved")
    assert await kinds(kept) == [(DifferenceKind.DRIFT, FIRST)]
    await long_ago(kept)
    assert await kinds(kept) == [(DifferenceKind.DRIFT, FIRST)]
    await changes(kept, 1, status="active")
    assert await kinds(kept) == []
    assert await kept.owner.fetchval("SELECT count(*) FROM netbox_pending_inspections") == 0


async def test_what_was_in_flight_is_looked_at_again(kept: Kept) -> None:
    await kept.pool()
    await kept.begin()
    await kept.allocate()
    await changes(kept, 1, status="active")
    assert await kinds(kept) == []
    await long_ago(kept)
    await kept.close(status="abandoned")
    assert await kinds(kept) == [(DifferenceKind.DRIFT, FIRST)]


async def test_a_pass_that_is_cut_off_counts_for_nothing(kept: Kept) -> None:
    await kept.pool()
    await lines(kept, 3)
    assert await kinds(kept) == []
    since = await kept.owner.fetchval("SELECT since FROM netbox_comparisons")
    for n in (1, 2):
        await changes(kept, n, status="reserved")
    passing = differences(kept.database, kept.netbox)
    assert (await anext(passing)).kind is DifferenceKind.DRIFT
    kept.server.stop()
    with pytest.raises(NetBoxError):
        await anext(passing)
    assert await kept.owner.fetchval("SELECT since FROM netbox_comparisons") == since
    kept.server.start()
    assert len(await kinds(kept)) == 2


async def test_only_some_pools(kept: Kept) -> None:
    await kept.pool("2001:db8:4000::/55", "first")
    await kept.pool("2001:db8:5000::/55", "second")
    await lines(kept, 3)
    for n in (1, 3):
        await changes(kept, n, status="reserved")
    [first, _] = [one.pool for one in sorted(await found(kept), key=lambda one: one.pool.id)]
    shown = [one async for one in differences(kept.database, kept.netbox, pools=[first])]
    assert [one.subject for one in shown] == [FIRST]


async def test_a_netbox_that_lacks_what_is_needed_is_not_believed(kept: Kept) -> None:
    """Without the key's field all would look as if it were a person's."""
    await kept.pool()
    await kept.provision()
    [field] = kept.peer.found("/api/extras/custom-fields/?name=lastmile_key")
    await asyncio.to_thread(kept.peer.send, "DELETE", f"/api/extras/custom-fields/{field['id']}/")
    async with NetBox(kept.server.url, kept.server.token) as netbox:
        with pytest.raises(NetBoxError, match="NetBox lacks what Lastmile needs"):
            _ = [one async for one in differences(kept.database, netbox)]


# Beside orders


async def missing_record_being_made(kept: Kept) -> tuple[Held, asyncio.Task[str]]:
    """A person has deleted S-1's record; NetBox is about to make it again."""
    await kept.pool()
    await kept.provision()
    await deletes(kept, 1)
    [one] = await found(kept)
    creation = Held(kept.server, "POST", PREFIXES, on_its_way=True)
    repairing = asyncio.create_task(repair(kept.database, kept.netbox, one))
    await creation.reached()
    return creation, repairing


async def test_a_release_while_the_missing_record_is_made(kept: Kept) -> None:
    """The release finds nothing to deprecate; then ours is made, and shown as resting at once."""
    creation, repairing = await missing_record_being_made(kept)
    await kept.deprovision()
    creation.go_on()
    assert await repairing == ""
    record = kept.record("acme/S-1/ipv6_pd/O-1")
    assert record is not None
    assert record["status"] == "deprecated"
    assert await kept.agree() == []


async def test_a_release_and_its_rest_are_over_before_the_missing_record_is_made(kept: Kept) -> None:
    creation, repairing = await missing_record_being_made(kept)
    await kept.deprovision()
    await kept.everything_is_due()
    creation.go_on()
    assert await repairing == ""
    assert kept.records() == []
    assert await kept.agree() == []


async def test_a_release_while_the_record_is_corrected(kept: Kept) -> None:
    """The order writes first, and the repair what was true before; then it looks again, and writes what is."""
    await kept.pool()
    await kept.provision()
    await changes(kept, 1, status="reserved")
    [one] = await found(kept)
    correction = Held(kept.server, "PATCH", PREFIXES, on_its_way=True)
    repairing = asyncio.create_task(repair(kept.database, kept.netbox, one))
    await correction.reached()
    await kept.deprovision()
    correction.go_on()
    assert await repairing == ""
    assert await kept.agree() == []


async def test_an_order_is_given_the_space_while_the_missing_record_is_made(kept: Kept) -> None:
    """NetBox has no lock between the two: both are made. The order gives up the one it got, and gets another."""
    await kept.pool()
    await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/ipam/vrfs/{kept.vrf}/", {"enforce_unique": False})
    await kept.provision()
    await deletes(kept, 1)
    [one] = await found(kept)
    creation = Held(kept.server, "POST", PREFIXES, on_its_way=True)
    repairing = asyncio.create_task(repair(kept.database, kept.netbox, one))
    await creation.reached()
    given = Held(kept.server)
    await kept.begin("S-2", "O-2")
    allocating = asyncio.create_task(kept.allocate_in_the_end("S-2", "O-2"))
    await given.reached()
    creation.go_on()
    await repairing
    given.go_on()
    second = await allocating
    await kept.activate("S-2", "O-2")
    await kept.close("S-2", "O-2")
    assert second != FIRST
    assert sorted(await kept.agree()) == sorted([FIRST, second])
    assert await kinds(kept, everything=True) == []


async def test_an_order_is_given_the_space_of_a_record_that_was_moved(kept: Kept) -> None:
    await kept.pool()
    await kept.provision()
    await changes(kept, 1, prefix="2001:db8:4000:7700::/56")
    second = await kept.insist(lambda: kept.provision("S-2", "O-2"))
    assert second != FIRST
    assert sorted(await kept.agree()) == sorted([FIRST, second])
    assert await kinds(kept, everything=True) == []


async def test_two_who_repair_at_once(kept: Kept, owner_url: str) -> None:
    await kept.pool()
    await kept.provision()
    await deletes(kept, 1)
    [one] = await found(kept)
    other = Database(owner_url)
    creation = Held(kept.server, "POST", PREFIXES, on_its_way=True)
    repairing = asyncio.create_task(repair(kept.database, kept.netbox, one))
    await creation.reached()
    assert "another repair is running" in await repair(other, kept.netbox, one)
    creation.go_on()
    assert await repairing == ""
    assert await repair(other, kept.netbox, one) == ""
    await other.close()
    assert len(kept.records()) == 1


async def test_nothing_is_false_while_orders_run(kept: Kept) -> None:
    """Passes of all kinds beside lines that come and go: at no moment is there anything to repair."""
    await kept.pool()
    await lines(kept, 4)
    done = asyncio.Event()

    async def look() -> list[tuple[DifferenceKind, str]]:
        seen = []
        while not done.is_set():
            for everything in (False, True):
                seen += await kinds(kept, everything=everything, page=3)
        return seen

    async def come_and_go(n: int) -> None:
        for time in range(3):
            await kept.deprovision(f"S-{n}", f"D-{n}-{time}")
            await kept.provision(f"S-{n}", f"O-{n}-{time}")

    looking = asyncio.create_task(look())
    await asyncio.gather(*(come_and_go(n) for n in range(1, 5)))
    done.set()
    assert await looking == []
    assert await kinds(kept, everything=True) == []
    assert len(await kept.agree()) == 4
