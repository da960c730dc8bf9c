"""Blocks that people have deleted, resized or moved in NetBox, and what NetBox gives away in their place."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from ipam.netbox import NetBox
from ipam.netbox.delegated.block_acquisition import BlockOverlapError, acquire_block
from ipam.netbox.reconcile.differences import DifferenceKind
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import LOST
from tests.support.delegated_env import Delegated
from tests.support.direct_env import AVAILABLE, PREFIXES
from tests.support.reconciliation import found, kinds

BLOCK = 16
LENGTHS = [50, 51, 53, 54]


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        yield kept


@pytest.fixture
async def home(kept: Delegated) -> int:
    return await kept.pool()


async def blocks_are(kept: Delegated, length: int) -> None:
    await kept.owner.execute("UPDATE pools SET netbox_block_length = $1", length)


async def changed_by_hand(kept: Delegated, id: int, **changes: Any) -> None:
    reply = await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{id}/", changes)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("length", LENGTHS)
async def test_what_comes_into_the_place_of_a_deleted_block_is_of_another_length(
    kept: Delegated, home: int, length: int
) -> None:
    given = await kept.lines(BLOCK)
    [block] = kept.containers()
    await blocks_are(kept, length)
    await kept.deleted_by_hand(block["id"])
    given += await kept.lines(2, start=50)
    assert len(set(given)) == BLOCK + 2
    assert sorted(await kept.agree()) == sorted(given)
    assert block["prefix"] in [one["prefix"] for one in kept.containers()]
    assert len(kept.containers()) == 2


@pytest.mark.parametrize("prefix", ["2001:db8:4000::/48", "2001:db8:4000::/52"])
async def test_what_a_person_has_over_a_block_is_told(kept: Delegated, home: int, prefix: str) -> None:
    """NetBox lets them, and shows nobody that a subscriber's prefix is somebody else's too."""
    await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/ipam/vrfs/{kept.vrf}/", {"enforce_unique": False})
    await kept.provision()
    await kept.agree()
    assert await kinds(kept) == []
    theirs = await kept.by_hand(prefix)
    for everything in (False, True):
        [one] = await found(kept, everything=everything)
        assert (one.kind, one.subject, one.netbox_id, one.repairable) == (
            DifferenceKind.OCCUPIED,
            prefix,
            theirs,
            False,
        )
        assert "covers block 2001:db8:4000::/52" in one.words
    await changed_by_hand(kept, theirs, status="container")
    assert await kinds(kept, everything=True) == [], "it only groups"


@pytest.mark.parametrize("length", LENGTHS)
async def test_several_deleted_blocks_are_all_made_again(kept: Delegated, home: int, length: int) -> None:
    given = await kept.lines(3 * BLOCK)
    await blocks_are(kept, length)
    for block in kept.containers():
        await kept.deleted_by_hand(block["id"])
    given += await kept.lines(2, start=50)
    assert len(set(given)) == 3 * BLOCK + 2
    assert sorted(await kept.agree()) == sorted(given)
    assert len(kept.containers()) == 4


async def test_a_keeper_makes_them_again_too(kept: Delegated, home: int) -> None:
    given = await kept.lines(BLOCK)
    await blocks_are(kept, 51)
    await kept.deleted_by_hand(kept.containers()[0]["id"])
    assert sorted(await kept.agree_in_the_end()) == sorted(given)


async def test_of_many_who_see_it_at_once_one_makes_it_again(kept: Delegated, home: int) -> None:
    """Whoever is late finds the very record that they wanted to be rid of as the block's."""
    given = await kept.lines(BLOCK)
    [block] = kept.containers()
    await kept.deleted_by_hand(block["id"])
    pool = await kept.the_pool()
    async with NetBox(kept.server.url, kept.server.token, in_flight=8) as netbox:
        for _ in range(5):
            results = await asyncio.gather(
                *(acquire_block(kept.database, netbox, pool) for _ in range(4)), return_exceptions=True
            )
            assert {type(one) for one in results} <= {bool, BlockOverlapError}
            assert block["prefix"] in [one["prefix"] for one in kept.containers()], "made again, and deleted again"
    assert sorted(await kept.agree()) == sorted(given)


async def test_a_block_that_was_being_taken_when_the_length_changed(kept: Delegated, home: int) -> None:
    kept.server.faults.next(LOST, method="POST", path=AVAILABLE)
    assert not await kept.beat()
    await blocks_are(kept, 50)
    assert await kept.provision() == "2001:db8:4000::/56"
    [block] = kept.containers()
    assert block["prefix"] == "2001:db8:4000::/52"
    given = await kept.lines(BLOCK, start=50)
    assert len(await kept.agree()) == len(given) + 1


async def test_a_block_that_a_person_has_made_smaller(kept: Delegated, home: int) -> None:
    """NetBox gives away what is free then; it is ours."""
    given = await kept.lines(BLOCK)
    await changed_by_hand(kept, kept.containers()[0]["id"], prefix="2001:db8:4000::/53")
    await blocks_are(kept, 53)
    given += await kept.lines(1, start=50)
    assert len(set(given)) == BLOCK + 1
    assert sorted(await kept.agree()) == sorted(given)


async def test_a_block_that_a_person_has_moved(kept: Delegated, home: int) -> None:
    given = await kept.lines(BLOCK)
    elsewhere = (await asyncio.to_thread(kept.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"]
    await changed_by_hand(kept, kept.containers()[0]["id"], vrf=elsewhere)
    given += await kept.lines(1, start=50)
    assert len(set(given)) == BLOCK + 1
    assert sorted(await kept.agree()) == sorted(given)


@pytest.mark.parametrize("change", ["deleted", "smaller", "larger", "moved"])
async def test_a_keeper_puts_a_block_right_that_nobody_has_come_across(kept: Delegated, home: int, change: str) -> None:
    await kept.provision()
    [block] = kept.containers()
    elsewhere = (await asyncio.to_thread(kept.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"]
    match change:
        case "deleted":
            await kept.deleted_by_hand(block["id"])
        case "smaller":
            await changed_by_hand(kept, block["id"], prefix="2001:db8:4000::/53")
        case "larger":
            await changed_by_hand(kept, block["id"], prefix="2001:db8:4000::/50")
        case "moved":
            await changed_by_hand(kept, block["id"], vrf=elsewhere)
    assert await kept.agree() == ["2001:db8:4000::/56"]
    assert [one["prefix"] for one in kept.containers()] == ["2001:db8:4000::/52"]
