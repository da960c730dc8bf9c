"""A pool changes its mode: every way from each to each, with prefixes held and at rest, and orders meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import asyncpg
import pytest
from temporalio.client import Client

from ipam.netbox.binding import OnRelease
from ipam.netbox.mode_change import preparation
from lastmile.client.pool_modes import PoolModeError, PoolModeOutageError
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import CUT, DROPPED, LOST, Fault
from tests.netbox.changeable import BLOCK, BLOCKS, DATABASE, DIRECT, HELD, PREFIX, Changeable, Way, resting
from tests.support.direct_env import AVAILABLE, PREFIXES, refusal
from tests.support.reconciliation import repaired
from workflows.maintenance import pool_mode_change


@pytest.fixture
async def kept(
    owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer, temporal_client: Client
) -> AsyncIterator[Changeable]:
    async with Changeable.serving(owner_url, owner, standin) as kept, kept.working(temporal_client):
        yield kept


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_mode_change, "ROUND", timedelta(milliseconds=50))
    monkeypatch.setattr(preparation, "PAUSE", timedelta(milliseconds=50))


@pytest.mark.parametrize("after", [DIRECT, BLOCKS, PREFIX])
@pytest.mark.parametrize("before", [DATABASE, DIRECT, BLOCKS, PREFIX])
async def test_every_way(kept: Changeable, before: Way | None, after: Way) -> None:
    await kept.start(before)
    await kept.lines(BLOCK + 3)
    await kept.deprovision("S-1", "D-1")
    await kept.begin("S-99", "O-99")
    await kept.allocate("S-99", "O-99")
    if before is None:
        held = sorted(row[0] for row in await kept.owner.fetch(HELD))
    else:
        if before == DIRECT:
            await kept.run(kept.addresses.activate_ipv6_lifecycle, kept.ref("S-99", "O-99"))
        else:
            await kept.finish("S-99", "O-99")
        held = await kept.agree_as(before)
    rests = await resting(kept)
    assert len(rests) == 1

    await kept.change(after)

    if before is None:
        await kept.finish("S-99", "O-99")
    elif before == DIRECT:
        await kept.close("S-99", "O-99")
    assert await kept.agree_as(after) == held
    assert await resting(kept) == rests
    given = await kept.lines(5, start=200)
    assert not set(given) & (set(held) | rests)
    for n in range(2, BLOCK + 4):
        await kept.deprovision(f"S-{n}", f"D-{n}")
    assert await kept.agree_as(after) == sorted([*given, *(set(held) & {await prefix_of(kept, "S-99")})])
    await kept.change(after)
    assert len(await kept.agree_as(after)) == 6, "the same again changes nothing"


async def prefix_of(kept: Changeable, ref: str) -> str:
    return str(
        await kept.owner.fetchval(
            "SELECT prefix::text FROM delegations WHERE subscriber_ref = $1 AND released_at IS NULL", ref
        )
    )


@pytest.mark.parametrize("before", [DIRECT, BLOCKS, PREFIX])
async def test_back_and_forth(kept: Changeable, before: Way) -> None:
    await kept.start(before)
    await kept.lines(BLOCK)
    held = await kept.agree_as(before)
    for way in (PREFIX, DIRECT, BLOCKS, DIRECT, PREFIX, BLOCKS):
        await kept.change(way)
        assert await kept.agree_as(way) == held


@pytest.mark.parametrize("after", [DIRECT, BLOCKS, PREFIX])
@pytest.mark.parametrize("before", [DATABASE, DIRECT, BLOCKS, PREFIX])
async def test_orders_meanwhile(kept: Changeable, before: Way | None, after: Way) -> None:
    await kept.start(before)
    await kept.lines(8)

    async def customers(start: int) -> list[str]:
        async def one(n: int) -> str:
            ref, order = f"S-{n}", f"O-{n}"
            await kept.begin(ref, order)
            prefix = str(await kept.insist(lambda: kept.allocate(ref, order), most=1000))
            await kept.insist(lambda: kept.activate(ref, order))
            await kept.close(ref, order)
            return prefix

        return [await one(n) for n in range(start, start + 12)]

    async def leavers() -> None:
        for n in range(1, 9):
            ref, order = f"S-{n}", f"D-{n}"
            await kept.begin(ref, order, "deprovision")
            for step in (kept.addresses.revoke_ipv6_lifecycle, kept.addresses.release_ip_address):
                await kept.insist(partial(kept.run, step, kept.ref(ref, order)))
            await kept.close(ref, order)

    async def operator() -> None:
        while True:  # as people do
            try:
                return await kept.change(after)
            except PoolModeError:
                await asyncio.sleep(0.01)

    first, second, *_ = await asyncio.gather(customers(100), customers(200), leavers(), operator())
    given = [*first, *second]
    assert len(set(given)) == 24
    assert await kept.agree_as(after) == sorted(given)


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED])
async def test_what_is_lost_on_the_way(kept: Changeable, fault: Fault, method: str) -> None:
    await kept.start(DATABASE)
    held = sorted(await kept.lines(BLOCK))
    for way in (DIRECT, BLOCKS, PREFIX, DIRECT):
        kept.server.faults.next(fault, method=method, path=PREFIXES, times=3)
        for _ in range(20):
            try:
                await kept.change(way)
                break
            except PoolModeError:  # NetBox may be at work on it still: an hour goes by
                await kept.owner.execute("UPDATE netbox_records SET due_at = now() WHERE due_at IS NOT NULL")
        kept.server.faults.clear()
        for _ in range(5):
            await kept.beat()
        assert await kept.agree_as(way) == held


async def test_netbox_away_changes_nothing(kept: Changeable, monkeypatch: pytest.MonkeyPatch) -> None:
    await kept.start(DATABASE)
    await kept.lines(3)
    kept.server.stop()
    monkeypatch.setattr(pool_mode_change, "ATTEMPTS", 1)
    with pytest.raises(PoolModeOutageError, match="no NetBox answers"):
        await kept.change(BLOCKS)
    assert await kept.owner.fetchval("SELECT netbox_mode FROM pools") is None
    assert len(await kept.lines(2, start=50)) == 2
    kept.server.start()
    await kept.change(BLOCKS)
    assert len(await kept.agree_as(BLOCKS)) == 5


@pytest.mark.parametrize("after", [DIRECT, BLOCKS])
async def test_a_persons_prefix_over_a_subscribers_is_refused(kept: Changeable, after: Way) -> None:
    await kept.start(DATABASE)
    await kept.lines(1)
    theirs = await kept.by_hand("2001:db8:4000::/60")
    with pytest.raises(PoolModeError, match=r"2001:db8:4000::/60, where S-1 holds 2001:db8:4000::/56"):
        await kept.change(after)
    assert await kept.owner.fetchval("SELECT netbox_mode FROM pools") is None
    assert kept.containers() == []
    await kept.deleted_by_hand(theirs)
    await kept.change(after)
    assert await kept.agree_as(after) == ["2001:db8:4000::/56"]


async def test_a_persons_prefix_that_would_be_a_block_is_refused(kept: Changeable) -> None:
    await kept.start(DATABASE)
    await kept.lines(1)
    await kept.by_hand("2001:db8:4000:1000::/52")
    with pytest.raises(PoolModeError, match=r"2001:db8:4000:1000::/52, where block 2001:db8:4000:1000::/52 would be"):
        await kept.change(BLOCKS, length=52)


async def test_what_a_person_has_beside_subscribers_is_respected(kept: Changeable) -> None:
    await kept.start(DIRECT)
    await kept.lines(3)
    await kept.by_hand("2001:db8:4000:300::/56")
    await kept.by_hand("2001:db8:4000:800::/53")
    await kept.change(PREFIX)
    given = sorted(await kept.lines(BLOCK - 3 - 1 - 8 + 1, start=50), key=lambda one: int(one.split(":")[3], 16))
    assert [one.split(":")[3] for one in given] == ["400", "500", "600", "700", "1000"]


async def test_a_direct_pool_whose_order_waits_is_not_changed(
    kept: Changeable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_mode_change, "ROUNDS", 2)
    await kept.start(DIRECT)
    await kept.begin()
    kept.server.faults.next(DROPPED, method="POST", path=AVAILABLE)
    assert not (await refusal(kept.allocate())).non_retryable
    with pytest.raises(PoolModeError, match="orders for S-1 wait for a prefix of pool home"):
        await kept.change(BLOCKS)
    assert await kept.owner.fetchval("SELECT netbox_mode FROM pools") == "direct"
    await kept.allocate_in_the_end()
    await kept.finish()
    await kept.change(BLOCKS)
    assert len(await kept.agree_as(BLOCKS)) == 1


async def test_an_order_while_a_pool_changes_hands_waits(kept: Changeable) -> None:
    await kept.start(DIRECT)
    await kept.owner.execute("UPDATE pools SET netbox_closed_until = now() + interval '1 minute'")
    await kept.begin()
    failure = await refusal(kept.allocate())
    assert (failure.type, failure.non_retryable) == ("PoolChangingError", False)
    await kept.owner.execute("UPDATE pools SET netbox_closed_until = now()")
    await kept.provision("S-2", "O-2")


async def test_on_release_and_the_length_of_blocks(kept: Changeable) -> None:
    await kept.start(PREFIX)
    await kept.lines(2)
    await kept.deprovision("S-1", "D-1")
    await kept.agree()
    assert sorted(one["status"] for one in kept.records()) == ["active", "deprecated"]
    await kept.change(PREFIX, OnRelease.DELETE, 54)
    await kept.agree()
    assert [one["status"] for one in kept.records()] == ["active"]
    await kept.change(PREFIX, OnRelease.DEPRECATE, 54)
    await kept.agree()
    assert sorted(one["status"] for one in kept.records()) == ["active", "deprecated"]
    await kept.lines(BLOCK, start=50)
    assert {one["prefix"].partition("/")[2] for one in kept.containers()} == {"52", "54"}
    await kept.change(DIRECT, OnRelease.DELETE)
    await kept.deprovision("S-2", "D-2")
    assert len(await kept.agree_as(DIRECT)) == BLOCK


async def test_blocks_left_by_a_change_that_was_given_up(kept: Changeable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one may want blocks of another length."""
    await kept.start(DIRECT)
    await kept.lines(2)
    await kept.begin("S-9", "O-9")
    kept.server.faults.next(DROPPED, method="POST", path=AVAILABLE)
    await refusal(kept.allocate("S-9", "O-9"))
    with monkeypatch.context() as patience:
        patience.setattr(pool_mode_change, "ROUNDS", 1)
        with pytest.raises(PoolModeError):
            await kept.change(BLOCKS)
    assert [one["prefix"] for one in kept.containers()] == ["2001:db8:4000::/52"]
    await kept.allocate_in_the_end("S-9", "O-9")
    await kept.finish("S-9", "O-9")
    await kept.change(BLOCKS, length=48)
    assert [one["prefix"] for one in kept.containers()] == ["2001:db8:4000::/48"]
    assert len(await kept.agree_as(BLOCKS)) == 3


async def test_what_people_wrote_on_a_record_stays_while_it_is_held(kept: Changeable) -> None:
    """Of a prefix that was imported it is all that tells them whose it is."""
    await kept.start(DIRECT)
    await kept.lines(1)
    [record] = kept.records()
    reply = await asyncio.to_thread(
        kept.peer.send, "PATCH", f"{PREFIXES}{record['id']}/", {"description": "line of Ada"}
    )
    assert reply.status_code == 200
    for way in (PREFIX, DIRECT, PREFIX):
        await kept.change(way)
        await kept.agree_as(way)
        assert [one["description"] for one in kept.records()] == ["line of Ada"]
    await kept.deprovision("S-1", "D-1")
    await kept.agree()
    assert [one["description"] for one in kept.records()] == ["rests, and was S-1's (Lastmile)"]


async def test_what_netbox_may_be_at_work_on_still_is_told_at_once(kept: Changeable) -> None:
    """And when it cannot be any more."""
    await kept.start(PREFIX)
    await kept.beat()
    kept.server.faults.next(LOST, method="POST", path=PREFIXES)
    await kept.lines(1)
    await kept.in_the_end()
    later = "SELECT to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC') FROM netbox_records"
    with pytest.raises(PoolModeError, match=f"continues after {await kept.owner.fetchval(later)}. Until then"):
        await kept.change(DIRECT)
    await kept.hours_later()
    await kept.change(DIRECT)
    assert len(await kept.agree_as(DIRECT)) == 1


async def test_what_was_repaired_does_not_keep_a_pool_from_being_changed(kept: Changeable) -> None:
    """NetBox has answered: nothing is left that it could do late."""
    await kept.start(PREFIX)
    await kept.lines(2)
    await kept.agree_as(PREFIX)
    for record in kept.records():
        await kept.deleted_by_hand(record["id"])
    assert await repaired(kept) == ["", ""]
    await kept.change(DIRECT)
    assert len(await kept.agree_as(DIRECT)) == 2


async def test_what_netbox_said_of_the_former_mode_is_forgotten(kept: Changeable) -> None:
    await kept.start(DIRECT)
    await kept.owner.execute("UPDATE pools SET netbox_full_since = now()")
    await kept.change(BLOCKS)
    assert await kept.owner.fetchval("SELECT netbox_full_since FROM pools") is None
