"""The comparison: pages, only what has changed, and beside running orders."""

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
from lastmile.devstack.netbox.http.faults import Fault
from tests.support.direct_env import PREFIXES, DirectEnv
from tests.support.held_requests import HeldRequest
from tests.support.reconciliation import found, kinds, repaired

FIRST = "2001:db8:4000::/56"


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DirectEnv]:
    async with DirectEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


async def lines(env: DirectEnv, number: int, start: int = 1) -> None:
    for n in range(start, start + number):
        await env.provision(f"S-{n}", f"O-{n}")


async def changes(env: DirectEnv, n: int, **attributes: Any) -> None:
    record = env.record(f"acme/S-{n}/ipv6_pd/O-{n}")
    assert record is not None
    reply = await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{record['id']}/", attributes)
    assert reply.status_code == 200, reply.text


async def deletes(env: DirectEnv, n: int) -> None:
    record = env.record(f"acme/S-{n}/ipv6_pd/O-{n}")
    assert record is not None
    reply = await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{record['id']}/")
    assert reply.status_code == 204


async def long_ago(env: DirectEnv) -> None:
    """Move the last comparison behind every change, margin included."""
    later = "now() + interval '1 hour'"
    await env.owner.execute(f"UPDATE netbox_comparisons SET since = {later}")


class RequestCounter:
    """Counts the requests to NetBox by method."""

    def __init__(self, env: DirectEnv) -> None:
        self.requests: Counter[str] = Counter()
        for method in ("GET", "POST", "PATCH", "DELETE"):
            counted = Fault(delay=lambda method=method: self.requests.update([method]))
            env.server.faults.chance(counted, 1, method=method, path=PREFIXES)


# Pages


@pytest.mark.parametrize("page", [1, 2, 3, 500])
async def test_comparison_finds_the_same_for_any_page_size(env: DirectEnv, page: int) -> None:
    await env.pool()
    await lines(env, 6)
    for n in (1, 3, 6):
        await deletes(env, n)
    for n in (2, 5):
        await changes(env, n, status="reserved")
    missing = [(DifferenceKind.MISSING, f"2001:db8:4000:{n}00::/56".replace(":000::", "::")) for n in (0, 2, 5)]
    drift = [(DifferenceKind.DRIFT, f"2001:db8:4000:{n}00::/56") for n in (1, 4)]
    assert await kinds(env, everything=True, page=page) == sorted(missing + drift)


async def test_comparison_finds_and_repairs_a_wholly_deleted_pool(env: DirectEnv) -> None:
    await env.pool()
    await lines(env, 5)
    for n in range(1, 6):
        await deletes(env, n)
    assert [kind for kind, _ in await kinds(env, page=2)] == [DifferenceKind.MISSING] * 5
    assert await repaired(env) == [""] * 5
    await env.agree()


# Only what has changed


async def test_comparison_reads_only_changes(env: DirectEnv) -> None:
    """It reads the pool's prefix, the number of records and the page of changes, whatever the number of prefixes."""
    await env.pool()
    await lines(env, 20)
    assert await kinds(env, page=5) == []
    await long_ago(env)
    asked = RequestCounter(env)
    assert await kinds(env, page=5) == []
    assert asked.requests == {"GET": 3}, "the pool, the number, and a page without changes"

    later = "2999-01-01T00:00:00Z"
    with env.server.store.transaction():
        record = env.record("acme/S-7/ipv6_pd/O-7")
        assert record is not None
        env.server.store.replace("ipam.prefix", {**record, "status": "reserved", "last_updated": later})
    asked.requests.clear()
    assert await kinds(env, page=5) == [(DifferenceKind.DRIFT, "2001:db8:4000:600::/56")]
    assert asked.requests == {"GET": 4}, "as before, and a look at the changed prefix"

    asked.requests.clear()
    await kinds(env, everything=True, page=5)
    assert asked.requests["GET"] > 4, "everything"


async def test_deleted_record_is_found_by_the_number_of_records(env: DirectEnv) -> None:
    await env.pool()
    await lines(env, 4)
    assert await kinds(env) == []
    await long_ago(env)
    await deletes(env, 2)
    assert await kinds(env) == [(DifferenceKind.MISSING, "2001:db8:4000:100::/56")]
    await long_ago(env)
    assert await kinds(env) == [(DifferenceKind.MISSING, "2001:db8:4000:100::/56")], "until it is repaired"
    assert await repaired(env) == [""]
    await env.agree()


async def test_deleted_record_beside_a_surplus_one_is_found(env: DirectEnv) -> None:
    """A copy with all tags replaces the deleted record, so the number of records is right."""
    await env.pool()
    await lines(env, 6)
    await env.owner.execute("UPDATE delegations SET state_since = state_since - interval '1 hour'")
    await kinds(env)
    await long_ago(env)
    await deletes(env, 3)
    copy = {"prefix": "2001:db8:4000:f000::/56", "vrf": env.vrf, "tags": [{"slug": "lastmile"}]}
    made = await asyncio.to_thread(env.peer.create, PREFIXES, **copy)
    with env.server.store.transaction():
        record = next(one for one in env.records() if one["id"] == made["id"])
        env.server.store.replace("ipam.prefix", {**record, "last_updated": "2999-01-01T00:00:00Z"})
    there = [(DifferenceKind.MISSING, "2001:db8:4000:200::/56"), (DifferenceKind.ORPHAN, "2001:db8:4000:f000::/56")]
    assert await kinds(env) == there
    assert await kinds(env) == there


async def test_found_difference_is_inspected_by_the_next_comparison(env: DirectEnv) -> None:
    """It has not changed since, and the number of records is right."""
    await env.pool()
    await lines(env, 2)
    assert await kinds(env) == []
    await changes(env, 1, status="reserved")
    assert await kinds(env) == [(DifferenceKind.DRIFT, FIRST)]
    await long_ago(env)
    assert await kinds(env) == [(DifferenceKind.DRIFT, FIRST)]
    await changes(env, 1, status="active")
    assert await kinds(env) == []
    assert await env.owner.fetchval("SELECT count(*) FROM netbox_pending_inspections") == 0


async def test_record_in_flight_is_inspected_by_the_next_comparison(env: DirectEnv) -> None:
    await env.pool()
    await env.begin()
    await env.allocate()
    await changes(env, 1, status="active")
    assert await kinds(env) == []
    await long_ago(env)
    await env.close(status="abandoned")
    assert await kinds(env) == [(DifferenceKind.DRIFT, FIRST)]


async def test_interrupted_comparison_does_not_count(env: DirectEnv) -> None:
    await env.pool()
    await lines(env, 3)
    assert await kinds(env) == []
    since = await env.owner.fetchval("SELECT since FROM netbox_comparisons")
    for n in (1, 2):
        await changes(env, n, status="reserved")
    passing = differences(env.database, env.netbox)
    assert (await anext(passing)).kind is DifferenceKind.DRIFT
    env.server.stop()
    with pytest.raises(NetBoxError):
        await anext(passing)
    assert await env.owner.fetchval("SELECT since FROM netbox_comparisons") == since
    env.server.start()
    assert len(await kinds(env)) == 2


async def test_comparison_of_some_pools_omits_the_others(env: DirectEnv) -> None:
    await env.pool("2001:db8:4000::/55", "first")
    await env.pool("2001:db8:5000::/55", "second")
    await lines(env, 3)
    for n in (1, 3):
        await changes(env, n, status="reserved")
    [first, _] = [one.pool for one in sorted(await found(env), key=lambda one: one.pool.id)]
    shown = [one async for one in differences(env.database, env.netbox, pools=[first])]
    assert [one.subject for one in shown] == [FIRST]


async def test_comparison_with_an_incomplete_netbox_is_refused(env: DirectEnv) -> None:
    """Without the custom field of the key, every record would look like a foreign prefix."""
    await env.pool()
    await env.provision()
    [field] = env.peer.found("/api/extras/custom-fields/?name=lastmile_key")
    await asyncio.to_thread(env.peer.send, "DELETE", f"/api/extras/custom-fields/{field['id']}/")
    async with NetBox(env.server.url, env.server.token) as netbox:
        with pytest.raises(NetBoxError, match="NetBox lacks what Lastmile needs"):
            _ = [one async for one in differences(env.database, netbox)]


# Beside running orders


async def missing_record_being_made(env: DirectEnv) -> tuple[HeldRequest, asyncio.Task[str]]:
    """Return the held repair of the deleted record of S-1."""
    await env.pool()
    await env.provision()
    await deletes(env, 1)
    [one] = await found(env)
    creation = HeldRequest(env.server, "POST", PREFIXES, before_arrival=True)
    repairing = asyncio.create_task(repair(env.database, env.netbox, one))
    await creation.reached()
    return creation, repairing


async def test_release_during_the_repair_of_a_missing_record_is_shown(env: DirectEnv) -> None:
    """The release finds no record to deprecate. The repair then creates the record, and deprecates it at once."""
    creation, repairing = await missing_record_being_made(env)
    await env.deprovision()
    creation.resume()
    assert await repairing == ""
    record = env.record("acme/S-1/ipv6_pd/O-1")
    assert record is not None
    assert record["status"] == "deprecated"
    assert await env.agree() == []


async def test_repair_finished_after_the_quarantine_leaves_no_record(env: DirectEnv) -> None:
    creation, repairing = await missing_record_being_made(env)
    await env.deprovision()
    await env.end_quarantines()
    creation.resume()
    assert await repairing == ""
    assert env.records() == []
    assert await env.agree() == []


async def test_release_during_a_correction_is_shown(env: DirectEnv) -> None:
    """The repair overwrites the release with the earlier state, reads again, and writes the present state."""
    await env.pool()
    await env.provision()
    await changes(env, 1, status="reserved")
    [one] = await found(env)
    correction = HeldRequest(env.server, "PATCH", PREFIXES, before_arrival=True)
    repairing = asyncio.create_task(repair(env.database, env.netbox, one))
    await correction.reached()
    await env.deprovision()
    correction.resume()
    assert await repairing == ""
    assert await env.agree() == []


async def test_order_that_gets_the_space_during_a_repair_gets_another(env: DirectEnv) -> None:
    """NetBox creates both records, since no lock separates the two. The order gives up its prefix and gets another."""
    await env.pool()
    await asyncio.to_thread(env.peer.send, "PATCH", f"/api/ipam/vrfs/{env.vrf}/", {"enforce_unique": False})
    await env.provision()
    await deletes(env, 1)
    [one] = await found(env)
    creation = HeldRequest(env.server, "POST", PREFIXES, before_arrival=True)
    repairing = asyncio.create_task(repair(env.database, env.netbox, one))
    await creation.reached()
    given = HeldRequest(env.server)
    await env.begin("S-2", "O-2")
    allocating = asyncio.create_task(env.allocate_with_retries("S-2", "O-2"))
    await given.reached()
    creation.resume()
    await repairing
    given.resume()
    second = await allocating
    await env.activate("S-2", "O-2")
    await env.close("S-2", "O-2")
    assert second != FIRST
    assert sorted(await env.agree()) == sorted([FIRST, second])
    assert await kinds(env, everything=True) == []


async def test_order_that_gets_the_space_of_a_moved_record_gets_another(env: DirectEnv) -> None:
    await env.pool()
    await env.provision()
    await changes(env, 1, prefix="2001:db8:4000:7700::/56")
    second = await env.retry(lambda: env.provision("S-2", "O-2"))
    assert second != FIRST
    assert sorted(await env.agree()) == sorted([FIRST, second])
    assert await kinds(env, everything=True) == []


async def test_second_repair_at_the_same_time_is_refused(env: DirectEnv, owner_url: str) -> None:
    await env.pool()
    await env.provision()
    await deletes(env, 1)
    [one] = await found(env)
    other = Database(owner_url)
    creation = HeldRequest(env.server, "POST", PREFIXES, before_arrival=True)
    repairing = asyncio.create_task(repair(env.database, env.netbox, one))
    await creation.reached()
    assert "another repair is running" in await repair(other, env.netbox, one)
    creation.resume()
    assert await repairing == ""
    assert await repair(other, env.netbox, one) == ""
    await other.close()
    assert len(env.records()) == 1


async def test_comparison_beside_orders_finds_no_difference(env: DirectEnv) -> None:
    """Comparisons of both kinds run beside provisions and deprovisions, and find nothing to repair."""
    await env.pool()
    await lines(env, 4)
    done = asyncio.Event()

    async def look() -> list[tuple[DifferenceKind, str]]:
        seen = []
        while not done.is_set():
            for everything in (False, True):
                seen += await kinds(env, everything=everything, page=3)
        return seen

    async def come_and_go(n: int) -> None:
        for time in range(3):
            await env.deprovision(f"S-{n}", f"D-{n}-{time}")
            await env.provision(f"S-{n}", f"O-{n}-{time}")

    looking = asyncio.create_task(look())
    await asyncio.gather(*(come_and_go(n) for n in range(1, 5)))
    done.set()
    assert await looking == []
    assert await kinds(env, everything=True) == []
    assert len(await env.agree()) == 4
