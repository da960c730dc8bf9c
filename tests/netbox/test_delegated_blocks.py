"""What people do inside a block, and the way of a block back to NetBox."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network

import asyncpg
import pytest

from ipam.allocation import allocate
from ipam.netbox.binding import ReportingScope
from ipam.netbox.delegated.block_acquisition import acquire_block
from ipam.netbox.delegated.block_return import return_spare_blocks
from ipam.netbox.errors import NetBoxTimeoutError
from ipam.netbox.records import USED
from lastmile.audit.audit import check
from lastmile.contract.addressing import Need, Purpose
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import CUT, DROPPED, LOST, POSTGRES_DOWN, Fault
from tests.support.delegated_env import Delegated
from tests.support.direct_env import PREFIXES, VRF
from tests.support.held_requests import Held

BLOCK = 16


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        yield kept


@pytest.fixture(params=list(ReportingScope))
async def home(kept: Delegated, request: pytest.FixtureRequest) -> int:
    return await kept.pool(record=request.param)


async def reported(kept: Delegated) -> list[tuple[str, str]]:
    found = [one async for one in check(kept.database)]
    return [(one.subject, one.words) for one in found if one.invariant.name == "foreign_prefix_in_block"]


async def rest_is_over(kept: Delegated) -> None:
    """And so is the time in which NetBox may still be asked for a block once more."""
    await kept.owner.execute("UPDATE netbox_blocks SET since = since - interval '1 hour'")
    await kept.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now() AND free_at < 'infinity'")
    await kept.owner.execute("UPDATE netbox_records SET due_at = now() WHERE due_at IS NOT NULL")


# People


async def test_what_a_person_took_is_not_given_out(kept: Delegated, home: int) -> None:
    await kept.beat()
    await kept.by_hand("2001:db8:4000:400::/54")  # four of the sixteen
    await kept.by_hand("2001:db8:4000:0:8000::/72")  # within the first
    assert await kept.beat()
    assert len(await reported(kept)) == 2
    given = await kept.lines(BLOCK - 5)
    taken = {f"2001:db8:4000:{n}00::/56" for n in (4, 5, 6, 7)} | {"2001:db8:4000::/56"}
    assert taken.isdisjoint(given)
    assert await kept.lines(1, start=99) == ["2001:db8:4000:1000::/56"], "the next block"
    assert ("2001:db8:4000:400::/54") in [subject for subject, _ in await reported(kept)]
    await kept.beat()
    assert kept.containers()[0]["custom_fields"][USED] == BLOCK


async def test_what_a_person_gave_back_rests_and_is_given_out_again(kept: Delegated, home: int) -> None:
    await kept.beat()
    theirs = await kept.by_hand("2001:db8:4000::/56")
    await kept.beat()
    await kept.deleted_by_hand(theirs)
    await kept.beat()
    assert await reported(kept) == []
    assert (await kept.lines(1))[0] == "2001:db8:4000:100::/56", "it rests"
    await rest_is_over(kept)
    given = await kept.lines(BLOCK - 1, start=2)
    assert "2001:db8:4000::/56" in given
    await kept.agree()


async def test_what_a_person_took_of_a_subscriber_is_reported(kept: Delegated) -> None:
    await kept.pool()
    await kept.provision()
    await kept.by_hand("2001:db8:4000::/56")
    await kept.beat()
    [(subject, words)] = await reported(kept)
    assert subject == "2001:db8:4000::/56"
    assert "by hand" in words
    assert "S-1 holds 2001:db8:4000::/56" in words
    await kept.deprovision()
    assert await kept.provision("S-1", "O-2") != subject, "not even to who had it"


async def test_a_look_asks_for_what_has_changed(kept: Delegated, home: int) -> None:
    """However many of ours are in a block, what is long known is not read again."""
    await kept.lines(BLOCK - 1)
    await kept.agree()
    await kept.owner.execute("UPDATE netbox_blocks SET looked_at = now() + interval '1 hour'")
    await kept.by_hand("2001:db8:4000:f00::/56")
    await kept.beat()
    assert await reported(kept) == [], "it looked behind the time that it had looked at"


# Back to NetBox


async def test_an_empty_block_is_returned(kept: Delegated, home: int) -> None:
    given = await kept.lines(BLOCK + 1)
    assert len(kept.containers()) == 2
    await kept.agree()
    await kept.deprovision(f"S-{given.index('2001:db8:4000:1000::/56') + 1}", "D-1")
    await kept.agree()
    assert len(kept.containers()) == 2, "something rests in it"
    await rest_is_over(kept)
    await kept.agree()
    assert len(kept.containers()) == 2, "the other one has no room"
    for n in range(1, BLOCK + 2):
        if given[n - 1] != "2001:db8:4000:1000::/56":
            await kept.deprovision(f"S-{n}", f"D-{n}x")
    await rest_is_over(kept)
    assert await kept.agree() == []
    assert await kept.agree() == []
    assert len(kept.containers()) == 1, "one is kept for the next line"
    assert await kept.owner.fetchval("SELECT count(*) FROM slots") == BLOCK
    assert len(await kept.lines(BLOCK, start=50)) == BLOCK


async def hours_of_rest_are_over(kept: Delegated) -> None:
    await rest_is_over(kept)
    await kept.owner.execute(
        "UPDATE slots SET free_at = now() - interval '2 hours' - slot * interval '1 minute' WHERE free_at <= now()"
    )
    await kept.agree()


async def test_nearly_empty_blocks_are_given_from_last_and_go_back_when_who_is_left_has_gone(
    kept: Delegated, home: int
) -> None:
    given = await kept.lines(3 * BLOCK)
    blocks = [block.prefix for block in await kept.blocks()][:3]
    by_block = [
        [n for n, prefix in enumerate(given, 1) if block and ip_network(prefix).subnet_of(block)] for block in blocks
    ]
    left = [9, 1, 2]
    for numbers, stay in zip(by_block, left, strict=True):
        for n in numbers[stay:]:
            await kept.deprovision(f"S-{n}", f"D-{n}")
    await hours_of_rest_are_over(kept)

    there = [await kept.provision(f"S-{n}", f"O-{n}") for n in range(100, 108)]
    assert [block for prefix in there for block in blocks if ip_network(prefix).subnet_of(block)] == (
        [blocks[0]] * 7 + [blocks[1]]
    )
    for n in by_block[2][:2]:
        await kept.deprovision(f"S-{n}", f"D-{n}")
    await hours_of_rest_are_over(kept)
    await kept.agree()
    assert [block.prefix for block in await kept.blocks()] == blocks[:2]


async def test_a_block_is_not_returned_while_netbox_may_be_asked_for_it_once_more(kept: Delegated, home: int) -> None:
    """By a request on its way from who gave up on it: it would make the block again, and nobody's."""
    on_the_way = Held(kept.server, on_its_way=True)
    async with on_the_way.given_up(kept.netbox):
        with pytest.raises(NetBoxTimeoutError):
            await acquire_block(kept.database, kept.netbox, await kept.the_pool())
    assert await acquire_block(kept.database, kept.netbox, await kept.the_pool())
    assert await acquire_block(kept.database, kept.netbox, await kept.the_pool(), wanted=BLOCK + 1)
    assert await kept.agree() == []
    assert len(kept.containers()) == 2
    on_the_way.go_on()
    kept.server.restart()  # it is done with what had arrived
    await rest_is_over(kept)
    assert await kept.agree() == []
    assert len(kept.containers()) == 1


async def two_empty_blocks(kept: Delegated) -> None:
    await kept.pool()
    await kept.lines(BLOCK + 1)
    await kept.agree()
    for n in range(1, BLOCK + 2):
        await kept.deprovision(f"S-{n}", f"D-{n}")
    await rest_is_over(kept)


@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED, POSTGRES_DOWN])
async def test_a_return_whose_reply_is_lost(kept: Delegated, fault: Fault) -> None:
    await two_empty_blocks(kept)
    kept.server.faults.next(fault, method="DELETE", path=PREFIXES, times=3)  # the client tries that often
    assert await kept.agree_in_the_end() == []
    assert len(kept.containers()) == 1


async def test_a_return_that_is_cut_off_goes_on(kept: Delegated) -> None:
    await two_empty_blocks(kept)
    kept.server.stop()
    assert not await kept.beat()
    kept.server.start()
    assert await kept.agree_in_the_end() == []
    assert len(kept.containers()) == 1


async def test_no_block_is_returned_below_the_feet_of_an_allocation(kept: Delegated) -> None:
    await two_empty_blocks(kept)
    pool = await kept.the_pool()
    given, *_ = await asyncio.gather(
        kept.lines(BLOCK, start=50), *(return_spare_blocks(kept.database, kept.netbox, pool) for _ in range(4))
    )
    assert len(set(given)) == BLOCK
    assert sorted(await kept.agree()) == sorted(given)


async def test_a_block_that_is_allocated_from_at_this_moment_stays(kept: Delegated) -> None:
    await two_empty_blocks(kept)
    newest = (await kept.blocks())[-1]
    await kept.owner.execute("UPDATE slots SET free_at = '-infinity' WHERE slot >= $1", newest.first_slot)
    async with kept.database.tenant("acme") as connection:
        need = Need(Purpose.IPV6_PD, 56, vrf=VRF)
        made = await allocate(connection, tenant="acme", subscriber_ref="S-99", order_id="O-99", need=need)
        assert made.delegation.slot == newest.first_slot
        returning = asyncio.create_task(return_spare_blocks(kept.database, kept.netbox, await kept.the_pool()))
        await kept.waiting()
    assert await returning == 1, "the other one"
    assert [block.id for block in await kept.blocks()] == [newest.id]
    assert await kept.owner.fetchval("SELECT count(*) FROM slots WHERE delegation_id IS NOT NULL") == 1
