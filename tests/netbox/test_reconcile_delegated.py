"""Delegated pools: the blocks and, where each is told, the prefixes in them; changes by hand are repaired."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from ipam.netbox.binding import ReportingScope
from ipam.netbox.delegated.blocks import MAINTENANCE_LOCK
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.netbox.records import KEY, STATE, SUBSCRIBER, USED
from lastmile.db.advisory_lock import exclusive
from lastmile.devstack.netbox import NetBoxServer
from tests.support.delegated_env import Delegated
from tests.support.direct_env import PREFIXES
from tests.support.reconciliation import found, kinds, repaired

FIRST, SECOND = "2001:db8:4000::/56", "2001:db8:4000:100::/56"
BLOCK = "2001:db8:4000::/52"


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        yield kept


async def two_lines(kept: Delegated, record: ReportingScope) -> None:
    """Of which the second has been taken down, and rests; NetBox has been told, and was looked at."""
    await kept.pool(record=record)
    await kept.provision()
    await kept.provision("S-2", "O-2")
    await kept.deprovision("S-2", "D-2")
    await kept.agree()
    assert await kinds(kept) == []


def block(kept: Delegated) -> int:
    return int(kept.containers()[0]["id"])


def line(kept: Delegated, n: int = 1) -> int:
    record = kept.record(f"acme/S-{n}/ipv6_pd/O-{n}")
    assert record is not None
    return int(record["id"])


async def changes(kept: Delegated, id: int, **attributes: Any) -> None:
    reply = await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{id}/", attributes)
    assert reply.status_code == 200, reply.text


async def elsewhere(kept: Delegated) -> int:
    return int((await asyncio.to_thread(kept.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"])


Breaking = Callable[[Delegated], Awaitable[None]]


async def block_deleted(kept: Delegated) -> None:
    await kept.deleted_by_hand(block(kept))


async def block_moved(kept: Delegated) -> None:
    await changes(kept, block(kept), prefix="2001:db8:4000:f000::/52")


async def block_resized(kept: Delegated) -> None:
    await changes(kept, block(kept), prefix="2001:db8:4000::/50")


async def block_in_another_vrf(kept: Delegated) -> None:
    await changes(kept, block(kept), vrf=await elsewhere(kept))


async def block_status(kept: Delegated) -> None:
    await changes(kept, block(kept), status="active")


async def block_figures(kept: Delegated) -> None:
    await changes(kept, block(kept), custom_fields={USED: 7})


async def block_tenant(kept: Delegated) -> None:
    await changes(kept, block(kept), tenant={"slug": "other"})


BLOCKS: list[tuple[Breaking, DifferenceKind, str]] = [
    (block_deleted, DifferenceKind.MISSING, "a block of pool home: NetBox shows no record of it"),
    (block_moved, DifferenceKind.MOVED, "a block of pool home: its record #2 is 2001:db8:4000:f000::/52"),
    (block_resized, DifferenceKind.MOVED, "a block of pool home: its record #2 is 2001:db8:4000::/50"),
    (
        block_in_another_vrf,
        DifferenceKind.MOVED,
        "a block of pool home: its record #2 is 2001:db8:4000::/52, in another VRF",
    ),
    (block_status, DifferenceKind.DRIFT, "a block of pool home: status active => container"),
    (block_figures, DifferenceKind.DRIFT, "a block of pool home: used 7 => 2"),
    (block_tenant, DifferenceKind.DRIFT, "a block of pool home: tenant other => acme"),
]


@pytest.mark.parametrize("record", list(ReportingScope))
@pytest.mark.parametrize(("by", "kind", "words"), BLOCKS)
async def test_what_somebody_did_to_a_block(
    kept: Delegated, record: ReportingScope, by: Breaking, kind: DifferenceKind, words: str
) -> None:
    await two_lines(kept, record)
    await by(kept)
    [one] = await found(kept)
    assert (one.kind, one.subject, one.words, one.repairable) == (kind, BLOCK, words, True)
    assert await kinds(kept, everything=True) == [(kind, BLOCK)]
    assert await repaired(kept) == [""]
    await kept.agree()


async def line_deleted(kept: Delegated) -> None:
    await kept.deleted_by_hand(line(kept))


async def rest_deleted(kept: Delegated) -> None:
    await kept.deleted_by_hand(line(kept, 2))


async def line_moved(kept: Delegated) -> None:
    await changes(kept, line(kept), prefix="2001:db8:4000:700::/56")


async def line_resized(kept: Delegated) -> None:
    await changes(kept, line(kept), prefix="2001:db8:4000::/64")


async def line_in_another_vrf(kept: Delegated) -> None:
    await changes(kept, line(kept), vrf=await elsewhere(kept))


async def line_status(kept: Delegated) -> None:
    await changes(kept, line(kept), status="reserved")


async def line_tenant(kept: Delegated) -> None:
    await changes(kept, line(kept), tenant=None)


async def line_state(kept: Delegated) -> None:
    await changes(kept, line(kept), custom_fields={STATE: "failed"})


async def line_subscriber(kept: Delegated) -> None:
    await changes(kept, line(kept), custom_fields={SUBSCRIBER: "S-9"})


async def line_tag(kept: Delegated) -> None:
    await changes(kept, line(kept), tags=[])


async def line_restored(kept: Delegated) -> None:
    """With its key, and another id."""
    await kept.deleted_by_hand(line(kept))
    await by_script(kept, FIRST, "acme/S-1/ipv6_pd/O-1", "active")


async def line_twice(kept: Delegated) -> None:
    await not_unique(kept, KEY)
    await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/ipam/vrfs/{kept.vrf}/", {"enforce_unique": False})
    await by_script(kept, FIRST, "acme/S-1/ipv6_pd/O-1", "active")


async def line_left_by_somebody_gone(kept: Delegated) -> None:
    """A record of the prefix's former holder turns up again."""
    await kept.begin("S-3", "O-3")
    prefix = await kept.allocate("S-3", "O-3")
    await kept.finish("S-3", "O-3")
    await kept.deprovision("S-3", "D-3")
    await kept.owner.execute("UPDATE slots SET free_at = now() WHERE free_at < 'infinity' AND last_holder LIKE '%S-3%'")
    await kept.owner.execute("UPDATE netbox_records SET due_at = now() WHERE slot = 2")
    await kept.beat()
    await by_script(kept, prefix, "acme/S-3/ipv6_pd/O-3", "active")


async def not_unique(kept: Delegated, field: str) -> None:
    [one] = kept.peer.found(f"/api/extras/custom-fields/?name={field}")
    await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/extras/custom-fields/{one['id']}/", {"unique": False})


async def by_script(kept: Delegated, prefix: str, key: str, state: str) -> None:
    fields = {KEY: key, SUBSCRIBER: key.split("/")[1], STATE: state}
    body = {"prefix": prefix, "vrf": kept.vrf, "custom_fields": fields, "tags": [{"slug": "lastmile"}]}
    await asyncio.to_thread(kept.peer.create, PREFIXES, **body)


LINES: list[tuple[Breaking, DifferenceKind, str, str]] = [
    (line_deleted, DifferenceKind.MISSING, FIRST, "S-1's, active: NetBox shows no record of it"),
    (rest_deleted, DifferenceKind.MISSING, SECOND, "S-2's, at rest: NetBox shows no record of it"),
    (line_moved, DifferenceKind.MOVED, FIRST, "S-1's, active: its record #3 is 2001:db8:4000:700::/56"),
    (line_resized, DifferenceKind.MOVED, FIRST, "S-1's, active: its record #3 is 2001:db8:4000::/64"),
    (line_in_another_vrf, DifferenceKind.MOVED, FIRST, f"S-1's, active: its record #3 is {FIRST}, in another VRF"),
    (line_status, DifferenceKind.DRIFT, FIRST, "S-1's, active: status reserved => active"),
    (line_tenant, DifferenceKind.DRIFT, FIRST, "S-1's, active: tenant none => acme"),
    (line_state, DifferenceKind.DRIFT, FIRST, "S-1's, active: state failed => active"),
    (line_subscriber, DifferenceKind.DRIFT, FIRST, "S-1's, active: subscriber S-9 => S-1"),
    (line_tag, DifferenceKind.DRIFT, FIRST, "S-1's, active: tag none => lastmile"),
    (line_restored, DifferenceKind.DRIFT, FIRST, f"S-1's, active: its record is #5 ({FIRST}), not #3"),
    (line_twice, DifferenceKind.DUPLICATE, FIRST, f"S-1's, active: record #5 ({FIRST}) carries its key too, beside #3"),
    (
        line_left_by_somebody_gone,
        DifferenceKind.ORPHAN,
        "2001:db8:4000:200::/56",
        "#5 carries the key of S-3's, released, which should not be there",
    ),
]


@pytest.mark.parametrize(("by", "kind", "subject", "words"), LINES)
async def test_what_somebody_did_to_a_prefix(
    kept: Delegated, by: Breaking, kind: DifferenceKind, subject: str, words: str
) -> None:
    await two_lines(kept, ReportingScope.PREFIX)
    await by(kept)
    [one] = [one for one in await found(kept) if one.kind is not DifferenceKind.POOL_MOVED]
    assert (one.kind, one.subject, one.words, one.repairable) == (kind, subject, words, True)
    if by is line_twice:
        [field] = kept.peer.found(f"/api/extras/custom-fields/?name={KEY}")
        await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/extras/custom-fields/{field['id']}/", {"unique": True})
    assert await kinds(kept, everything=True) == [(kind, subject)]
    assert await repaired(kept) == [""]
    await kept.agree()


async def test_a_pool_that_tells_of_blocks_alone_has_no_prefixes_there(kept: Delegated) -> None:
    """As they were while each was told."""
    await two_lines(kept, ReportingScope.BLOCK)
    await by_script(kept, FIRST, "acme/S-1/ipv6_pd/O-1", "active")
    assert await kinds(kept) == [(DifferenceKind.ORPHAN, FIRST)]
    assert await repaired(kept) == [""]
    assert kept.records() == []
    await kept.agree()


async def test_a_prefix_that_the_outbox_has_forgotten(kept: Delegated) -> None:
    await two_lines(kept, ReportingScope.PREFIX)
    await kept.deleted_by_hand(line(kept))
    await kept.owner.execute("DELETE FROM netbox_records WHERE slot = 0")
    assert await kinds(kept, everything=True) == [(DifferenceKind.MISSING, FIRST)]
    assert await repaired(kept, everything=True) == [""]
    await kept.agree()


async def test_what_the_outbox_has_yet_to_tell_is_no_difference(kept: Delegated) -> None:
    await two_lines(kept, ReportingScope.PREFIX)
    await kept.lines(3, start=5)
    assert len(kept.records()) == 2
    assert await kinds(kept) == []
    assert await kinds(kept, everything=True) == []
    await kept.deprovision("S-1", "D-1")
    await changes(kept, line(kept), status="reserved")
    assert await kinds(kept) == []
    await kept.beat()
    assert await kinds(kept, everything=True) == []


async def test_the_place_of_a_record_is_taken(kept: Delegated) -> None:
    """What NetBox says against it is said; the audit repeats it until it is repaired."""
    await two_lines(kept, ReportingScope.PREFIX)
    await kept.deleted_by_hand(line(kept))
    theirs = await kept.by_hand(FIRST)
    [problem] = await repaired(kept)
    assert problem == f"NetBox has {FIRST} already, and not as ours: by hand"
    assert {one["id"]: one["custom_fields"].get(KEY) for one in kept.records()}[theirs] is None
    await kept.deleted_by_hand(theirs)
    await kept.owner.execute("UPDATE netbox_records SET due_at = now()")
    await kept.agree()


async def test_a_block_whose_place_is_taken(kept: Delegated) -> None:
    await two_lines(kept, ReportingScope.BLOCK)
    await block_deleted(kept)
    theirs = await kept.by_hand(BLOCK)
    assert await kinds(kept, everything=True) == [(DifferenceKind.MISSING, BLOCK), (DifferenceKind.OCCUPIED, BLOCK)]
    assert len([problem for problem in await repaired(kept) if "Duplicate prefix found" in problem]) == 1
    await kept.deleted_by_hand(theirs)
    assert await repaired(kept) == [""]


async def test_a_block_that_nobody_knows(kept: Delegated) -> None:
    """It may be all that is left of what a lost database has assigned: it is not deleted."""
    await two_lines(kept, ReportingScope.BLOCK)
    await by_script(kept, "2001:db8:4000:1000::/52", "lastmile/block/home/9/0a1b2c3d", "")
    [one] = await found(kept)
    assert (one.kind, one.repairable) == (DifferenceKind.ORPHAN, False)
    assert (await repaired(kept))[0].startswith("find out who made it")


async def test_a_block_waits_for_the_keeper(kept: Delegated, owner_url: str) -> None:
    await two_lines(kept, ReportingScope.BLOCK)
    await block_moved(kept)
    [one] = await found(kept)
    async with exclusive(kept.database, MAINTENANCE_LOCK) as ours:
        assert ours
        repairing = asyncio.create_task(repaired(kept))
        done, _ = await asyncio.wait([repairing], timeout=1)
        assert not done
        assert kept.containers()[0]["prefix"] != BLOCK
    assert await repairing == [""]
    assert kept.containers()[0]["prefix"] == str(one.subject)
