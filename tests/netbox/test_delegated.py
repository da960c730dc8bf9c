"""A delegated pool: blocks of it are taken whole, whatever is lost on the way, and assigned from without NetBox."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import ValidationError
from temporalio.exceptions import ApplicationError

from ipam.allocation import allocate
from ipam.netbox import NetBox
from ipam.netbox.binding import AllocationMode, Binding, ReportingScope
from ipam.netbox.delegated.block_acquisition import acquire_block
from ipam.netbox.delegated.blocks import MAINTENANCE_LOCK
from ipam.netbox.records import KEY, SIZE, USED
from ipam.pools import Pool
from lastmile.contract.addressing import Need, Purpose
from lastmile.db import Database
from lastmile.db.advisory_lock import exclusive
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import CUT, DROPPED, LOST, POSTGRES_DOWN, REDIS_LOST, Fault, proxy
from tests.support.delegated_env import Delegated
from tests.support.direct_env import AVAILABLE, PREFIXES, SPACE, VRF, refusal

BLOCK = 16


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        yield kept


@pytest.fixture
async def home(kept: Delegated) -> int:
    """A delegated pool of /56s, and its id in NetBox."""
    return await kept.pool()


# The way of a block


async def test_the_first_line_takes_a_block(kept: Delegated, home: int) -> None:
    assert await kept.provision() == "2001:db8:4000::/56"
    [block] = kept.containers()
    assert (block["prefix"], block["status"]) == ("2001:db8:4000::/52", "container")
    assert block["description"] == "Lastmile's: it gives /56s of pool home to subscribers from here"
    assert kept.records() == [], "nothing of a subscriber's"
    assert await kept.agree() == ["2001:db8:4000::/56"]
    [block] = kept.containers()
    assert (block["custom_fields"][USED], block["custom_fields"][SIZE]) == (1, BLOCK)


async def test_the_keeper_takes_the_next_block_ahead_of_need(kept: Delegated, home: int) -> None:
    assert await kept.beat()
    assert len(kept.containers()) == 1, "before the first line"
    await kept.lines(BLOCK * 3 // 4)
    await kept.beat()
    assert len(kept.containers()) == 1, "a quarter is left"
    await kept.lines(1, start=100)
    await kept.beat()
    assert len(kept.containers()) == 2
    await kept.agree()


async def test_a_full_block_is_followed_by_another(kept: Delegated, home: int) -> None:
    given = await kept.lines(2 * BLOCK + 1)
    assert len(set(given)) == 2 * BLOCK + 1
    assert len(kept.containers()) == 3
    assert sorted(await kept.agree()) == sorted(given)


async def test_many_at_once_take_one_block(kept: Delegated, home: int) -> None:
    await kept.lines(BLOCK)
    assert len(kept.containers()) == 1


async def test_many_at_once_ask_netbox_once(kept: Delegated, home: int) -> None:
    slow = Fault(latency=0.1)
    kept.server.faults.chance(slow, 1, path=AVAILABLE)
    await kept.lines(BLOCK)
    assert kept.server.faults.met[slow] == 1


async def test_two_workers_take_one_block(kept: Delegated, home: int, owner_url: str) -> None:
    other = Database(owner_url)
    pool = await kept.the_pool()
    arrived, gate = asyncio.Event(), asyncio.get_running_loop()
    kept.server.faults.next(
        Fault(delay=lambda: gate.call_soon_threadsafe(arrived.set), work=0.2), method="POST", path=AVAILABLE
    )
    first = asyncio.create_task(acquire_block(kept.database, kept.netbox, pool))
    await arrived.wait()
    async with NetBox(kept.server.url, kept.server.token) as netbox:
        await asyncio.gather(first, acquire_block(other, netbox, pool), acquire_block(other, netbox, pool))
    await other.close()
    assert len(kept.containers()) == 1
    assert await kept.agree() == []


async def test_one_keeper_at_a_time(kept: Delegated, home: int, owner_url: str) -> None:
    other = Database(owner_url)
    async with exclusive(other, MAINTENANCE_LOCK) as first:
        assert first
        assert await kept.beat()
        assert kept.containers() == []
    assert await kept.beat()
    await other.close()
    assert len(kept.containers()) == 1


# What gets lost on the way


@pytest.mark.parametrize("fault", [LOST, CUT, REDIS_LOST, DROPPED, POSTGRES_DOWN, proxy(503)])
async def test_a_block_whose_reply_is_lost_is_found_again(kept: Delegated, home: int, fault: Fault) -> None:
    await kept.begin()
    kept.server.faults.next(fault, method="POST", path=AVAILABLE)
    failure = await refusal(kept.allocate())
    assert (failure.type, failure.non_retryable) == ("NoBlockError", False)
    assert failure.message.startswith(
        "no block of pool home (2001:db8:4000::/40) has a free prefix, and no further one could be taken now: "
    )
    assert await kept.allocate_in_the_end() == "2001:db8:4000::/56"
    await kept.finish()
    assert len(kept.containers()) == 1
    await kept.agree()


async def test_a_worker_lost_between_netbox_and_the_database(kept: Delegated, home: int) -> None:
    arrived, loop = asyncio.Event(), asyncio.get_running_loop()
    kept.server.faults.next(Fault(hold=lambda: loop.call_soon_threadsafe(arrived.set)), method="POST", path=AVAILABLE)
    task = asyncio.create_task(kept.beat())
    await arrived.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await kept.insist(lambda: kept.beat())
    assert len(kept.containers()) == 1
    await kept.agree()


async def test_lines_come_and_go_while_netbox_is_away(kept: Delegated, home: int) -> None:
    await kept.beat()
    kept.server.stop()
    given = await kept.lines(BLOCK)
    assert len(set(given)) == BLOCK
    await kept.deprovision("S-1", "D-1")
    await kept.begin("S-99", "O-99")
    failure = await refusal(kept.allocate("S-99", "O-99"))
    assert (failure.type, failure.non_retryable) == ("NoBlockError", False)
    assert "no block of pool home" in failure.message
    assert "no NetBox answers at" in failure.message
    assert not await kept.beat()

    kept.server.start()
    assert await kept.allocate("S-99", "O-99") not in given
    await kept.finish("S-99", "O-99")
    assert len(await kept.agree()) == BLOCK


async def test_the_next_pool_comes_after_one_without_further_blocks(kept: Delegated) -> None:
    await kept.pool("2001:db8:4000::/51")
    await kept.lines(2 * BLOCK)
    await kept.pool("2001:db8:8000::/40", "second")
    assert (await kept.lines(1, start=99))[0] == "2001:db8:8000::/56"


# What people do in NetBox


async def test_a_block_that_was_deleted_by_hand_is_made_again(kept: Delegated, home: int) -> None:
    await kept.provision()
    await kept.deleted_by_hand(kept.containers()[0]["id"])
    await kept.agree()
    [block] = kept.containers()
    assert (block["prefix"], block["custom_fields"][USED]) == ("2001:db8:4000::/52", 1)


async def test_space_of_a_block_that_was_deleted_by_hand_is_not_given_twice(kept: Delegated, home: int) -> None:
    """NetBox gives it away with its very next answer, before the keeper has looked."""
    given = await kept.lines(BLOCK)
    await kept.deleted_by_hand(kept.containers()[0]["id"])
    given += await kept.lines(1, start=99)
    assert len(set(given)) == BLOCK + 1
    assert sorted(await kept.agree()) == sorted(given)
    assert len(kept.containers()) == 2


async def test_a_pool_that_was_deleted_by_hand(kept: Delegated, home: int) -> None:
    await kept.provision()
    reply = await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{home}/")
    assert reply.status_code == 204
    await kept.lines(BLOCK - 1, start=2)
    await kept.begin("S-99", "O-99")
    failure = await refusal(kept.allocate("S-99", "O-99"))
    assert (failure.type, failure.non_retryable) == ("PoolMovedError", True)
    assert "Restore it there" in failure.message


async def test_a_pool_in_another_vrf_gives_no_block(kept: Delegated, home: int) -> None:
    elsewhere = (await asyncio.to_thread(kept.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"]
    await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{home}/", {"vrf": elsewhere})
    kept.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await kept.begin("S-99", "O-99")
    with pytest.raises(ApplicationError) as failure:
        await kept.insist(lambda: kept.allocate("S-99", "O-99"))
    assert failure.value.type == "PoolMovedError"
    assert "in another VRF" in failure.value.message
    await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{home}/", {"vrf": kept.vrf})
    assert await kept.allocate("S-99", "O-99") == "2001:db8:4000::/56"
    assert [one["vrf"] for one in kept.containers()] == [kept.vrf]


async def test_a_record_of_another_key_is_not_our_block(kept: Delegated, home: int) -> None:
    """Somebody made the record over: it is left as it is, and lines go on coming."""
    await kept.beat()
    [block] = kept.containers()
    reply = await asyncio.to_thread(
        kept.peer.send, "PATCH", f"{PREFIXES}{block['id']}/", {"custom_fields": {KEY: "x"}, "description": "mine"}
    )
    assert reply.status_code == 200
    assert not await kept.beat()
    assert [one["description"] for one in kept.containers()] == ["mine"]
    assert await kept.provision() == "2001:db8:4000::/56"


# The pool


async def test_provisioning_within_a_block_costs_what_it_does_without_netbox(kept: Delegated, home: int) -> None:
    await kept.beat()
    asked = len(kept.containers())
    kept.server.stop()
    async with kept.database.tenant("acme") as connection:
        made = await allocate(
            connection, tenant="acme", subscriber_ref="S-1", order_id="O-1", need=Need(Purpose.IPV6_PD, 56, vrf=VRF)
        )
    assert made.created
    kept.server.start()
    assert len(kept.containers()) == asked


@pytest.mark.parametrize(
    ("prefix", "wanted", "chosen"),
    [("2001:db8::/32", None, 44), ("2001:db8::/46", None, 47), ("2001:db8::/32", 48, 48), ("2001:db8::/55", None, 56)],
)
def test_the_length_of_a_block(prefix: str, wanted: int | None, chosen: int) -> None:
    place = Binding(mode=AllocationMode.DELEGATED, prefix_id=1, vrf_id=None, block_length=wanted)
    pool = Pool(name="home", prefix=prefix, purpose=Purpose.IPV6_PD, delegated_length=56, netbox=place)
    assert pool.netbox is not None
    assert (pool.netbox.block_length, pool.netbox.record) == (chosen, ReportingScope.BLOCK)


@pytest.mark.parametrize(("length", "words"), [(32, "/40 to a /56"), (57, "/40 to a /56"), (39, "/40 to a /56")])
def test_a_block_that_does_not_fit(length: int, words: str) -> None:
    place = Binding(mode=AllocationMode.DELEGATED, prefix_id=1, vrf_id=None, block_length=length)
    with pytest.raises(ValidationError, match=words):
        Pool(name="home", prefix="2001:db8::/32", purpose=Purpose.IPV6_PD, delegated_length=56, netbox=place)


def test_a_block_and_all_that_is_in_it_are_not_the_same_prefix_in_netbox() -> None:
    """NetBox refuses the second, in a VRF without duplicates."""
    place = Binding(
        mode=AllocationMode.DELEGATED, prefix_id=1, vrf_id=None, record=ReportingScope.PREFIX, block_length=56
    )
    with pytest.raises(ValidationError, match="/40 to a /55, not a /56"):
        Pool(name="home", prefix="2001:db8::/32", purpose=Purpose.IPV6_PD, delegated_length=56, netbox=place)
    place = Binding(mode=AllocationMode.DELEGATED, prefix_id=1, vrf_id=None, record=ReportingScope.PREFIX)
    with pytest.raises(ValidationError, match="needs a larger prefix, or --record block"):
        Pool(name="home", prefix="2001:db8::/55", purpose=Purpose.IPV6_PD, delegated_length=56, netbox=place)


def test_only_a_delegated_pool_has_blocks() -> None:
    with pytest.raises(ValidationError, match="only a delegated pool has blocks"):
        Binding(mode=AllocationMode.DIRECT, prefix_id=1, vrf_id=None, block_length=44)


assert SPACE == "2001:db8:4000::/40"
