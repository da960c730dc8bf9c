"""Foreign prefixes inside blocks, and the return of blocks to NetBox."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network

import asyncpg
import pytest

from ipam.allocation import allocate
from ipam.modes import ReportingScope
from ipam.netbox.delegated.block_acquisition import acquire_block
from ipam.netbox.delegated.block_return import return_spare_blocks
from ipam.netbox.errors import NetBoxTimeoutError
from ipam.netbox.records import USED
from lastmile.audit.audit import check
from lastmile.contract.addressing import Need, Purpose
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import CUT, DROPPED, LOST, POSTGRES_DOWN, Fault
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import PREFIXES, VRF
from tests.support.held_requests import HeldRequest

BLOCK = 16


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DelegatedEnv]:
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


@pytest.fixture(params=list(ReportingScope))
async def home(env: DelegatedEnv, request: pytest.FixtureRequest) -> int:
    return await env.pool(record=request.param)


async def reported(env: DelegatedEnv) -> list[tuple[str, str]]:
    found = [one async for one in check(env.database)]
    return [(one.subject, one.words) for one in found if one.invariant.name == "foreign_prefix_in_block"]


async def end_quarantine(env: DelegatedEnv) -> None:
    """End every quarantine, and the time in which NetBox may still execute a request for a block."""
    await env.owner.execute("UPDATE netbox_blocks SET since = since - interval '1 hour'")
    await env.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now() AND free_at < 'infinity'")
    await env.owner.execute("UPDATE netbox_records SET due_at = now() WHERE due_at IS NOT NULL")


# Foreign prefixes


async def test_slots_under_foreign_prefixes_are_not_assigned(env: DelegatedEnv, home: int) -> None:
    await env.maintain()
    await env.create_foreign_prefix("2001:db8:4000:400::/54")  # four of the sixteen
    await env.create_foreign_prefix("2001:db8:4000:0:8000::/72")  # within the first
    assert await env.maintain()
    assert len(await reported(env)) == 2
    given = await env.lines(BLOCK - 5)
    taken = {f"2001:db8:4000:{n}00::/56" for n in (4, 5, 6, 7)} | {"2001:db8:4000::/56"}
    assert taken.isdisjoint(given)
    assert await env.lines(1, start=99) == ["2001:db8:4000:1000::/56"], "the next block"
    assert ("2001:db8:4000:400::/54") in [subject for subject, _ in await reported(env)]
    await env.maintain()
    assert env.containers()[0]["custom_fields"][USED] == BLOCK


async def test_slots_of_a_deleted_foreign_prefix_return_after_quarantine(env: DelegatedEnv, home: int) -> None:
    await env.maintain()
    foreign = await env.create_foreign_prefix("2001:db8:4000::/56")
    await env.maintain()
    await env.delete_in_netbox(foreign)
    await env.maintain()
    assert await reported(env) == []
    assert (await env.lines(1))[0] == "2001:db8:4000:100::/56", "the first is in quarantine"
    await end_quarantine(env)
    given = await env.lines(BLOCK - 1, start=2)
    assert "2001:db8:4000::/56" in given
    await env.agree()


async def test_foreign_prefix_over_a_held_slot_is_reported(env: DelegatedEnv) -> None:
    await env.pool()
    await env.provision()
    await env.create_foreign_prefix("2001:db8:4000::/56")
    await env.maintain()
    [(subject, words)] = await reported(env)
    assert subject == "2001:db8:4000::/56"
    assert "by hand" in words
    assert "S-1 holds 2001:db8:4000::/56" in words
    await env.deprovision()
    assert await env.provision("S-1", "O-2") != subject, "not even its last holder gets it"


async def test_search_for_foreign_prefixes_reads_only_changes(env: DelegatedEnv, home: int) -> None:
    """It does not read the unchanged records in the block again."""
    await env.lines(BLOCK - 1)
    await env.agree()
    await env.owner.execute("UPDATE netbox_blocks SET looked_at = now() + interval '1 hour'")
    await env.create_foreign_prefix("2001:db8:4000:f00::/56")
    await env.maintain()
    assert await reported(env) == [], "the search begins at the time of the last one"


# The return of blocks


async def test_empty_block_is_returned_when_others_have_free_slots(env: DelegatedEnv, home: int) -> None:
    given = await env.lines(BLOCK + 1)
    assert len(env.containers()) == 2
    await env.agree()
    await env.deprovision(f"S-{given.index('2001:db8:4000:1000::/56') + 1}", "D-1")
    await env.agree()
    assert len(env.containers()) == 2, "a prefix in it is in quarantine"
    await end_quarantine(env)
    await env.agree()
    assert len(env.containers()) == 2, "the other one has no room"
    for n in range(1, BLOCK + 2):
        if given[n - 1] != "2001:db8:4000:1000::/56":
            await env.deprovision(f"S-{n}", f"D-{n}x")
    await end_quarantine(env)
    assert await env.agree() == []
    assert await env.agree() == []
    assert len(env.containers()) == 1, "one is kept for the next line"
    assert await env.owner.fetchval("SELECT count(*) FROM slots") == BLOCK
    assert len(await env.lines(BLOCK, start=50)) == BLOCK


async def pass_hours_after_quarantine(env: DelegatedEnv) -> None:
    await end_quarantine(env)
    await env.owner.execute(
        "UPDATE slots SET free_at = now() - interval '2 hours' - slot * interval '1 minute' WHERE free_at <= now()"
    )
    await env.agree()


async def test_nearly_empty_blocks_are_used_last_and_returned_when_empty(env: DelegatedEnv, home: int) -> None:
    given = await env.lines(3 * BLOCK)
    blocks = [block.prefix for block in await env.blocks()][:3]
    by_block = [
        [n for n, prefix in enumerate(given, 1) if block and ip_network(prefix).subnet_of(block)] for block in blocks
    ]
    left = [9, 1, 2]
    for numbers, stay in zip(by_block, left, strict=True):
        for n in numbers[stay:]:
            await env.deprovision(f"S-{n}", f"D-{n}")
    await pass_hours_after_quarantine(env)

    there = [await env.provision(f"S-{n}", f"O-{n}") for n in range(100, 108)]
    assert [block for prefix in there for block in blocks if ip_network(prefix).subnet_of(block)] == (
        [blocks[0]] * 7 + [blocks[1]]
    )
    for n in by_block[2][:2]:
        await env.deprovision(f"S-{n}", f"D-{n}")
    await pass_hours_after_quarantine(env)
    await env.agree()
    assert [block.prefix for block in await env.blocks()] == blocks[:2]


async def test_block_with_a_request_still_on_its_way_is_not_returned(env: DelegatedEnv, home: int) -> None:
    """A request that the client gave up could create the block again after its return."""
    on_the_way = HeldRequest(env.server, before_arrival=True)
    async with on_the_way.abandoned_by(env.netbox):
        with pytest.raises(NetBoxTimeoutError):
            await acquire_block(env.database, env.netbox, await env.bound_pool())
    assert await acquire_block(env.database, env.netbox, await env.bound_pool())
    assert await acquire_block(env.database, env.netbox, await env.bound_pool(), free_slots=BLOCK + 1)
    assert await env.agree() == []
    assert len(env.containers()) == 2
    on_the_way.resume()
    env.server.restart()  # the server has completed what had arrived
    await end_quarantine(env)
    assert await env.agree() == []
    assert len(env.containers()) == 1


async def two_empty_blocks(env: DelegatedEnv) -> None:
    await env.pool()
    await env.lines(BLOCK + 1)
    await env.agree()
    for n in range(1, BLOCK + 2):
        await env.deprovision(f"S-{n}", f"D-{n}")
    await end_quarantine(env)


@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED, POSTGRES_DOWN])
async def test_return_with_a_fault_is_repeated(env: DelegatedEnv, fault: Fault) -> None:
    await two_empty_blocks(env)
    env.server.faults.next(fault, method="DELETE", path=PREFIXES, times=3)  # the client tries three times
    assert await env.agree_after_maintenance() == []
    assert len(env.containers()) == 1


async def test_interrupted_return_is_continued(env: DelegatedEnv) -> None:
    await two_empty_blocks(env)
    env.server.stop()
    assert not await env.maintain()
    env.server.start()
    assert await env.agree_after_maintenance() == []
    assert len(env.containers()) == 1


async def test_return_beside_allocations_takes_no_assigned_slot(env: DelegatedEnv) -> None:
    await two_empty_blocks(env)
    pool = await env.bound_pool()
    given, *_ = await asyncio.gather(
        env.lines(BLOCK, start=50), *(return_spare_blocks(env.database, env.netbox, pool) for _ in range(4))
    )
    assert len(set(given)) == BLOCK
    assert sorted(await env.agree()) == sorted(given)


async def test_block_with_an_allocation_in_progress_is_not_returned(env: DelegatedEnv) -> None:
    await two_empty_blocks(env)
    newest = (await env.blocks())[-1]
    await env.owner.execute("UPDATE slots SET free_at = '-infinity' WHERE slot >= $1", newest.first_slot)
    async with env.database.tenant("acme") as connection:
        need = Need(Purpose.IPV6_PD, 56, vrf=VRF)
        made = await allocate(connection, tenant="acme", subscriber_ref="S-99", order_id="O-99", need=need)
        assert made.delegation.slot == newest.first_slot
        returning = asyncio.create_task(return_spare_blocks(env.database, env.netbox, await env.bound_pool()))
        await env.wait_for_locks()
    assert await returning == 1, "the other one"
    assert [block.id for block in await env.blocks()] == [newest.id]
    assert await env.owner.fetchval("SELECT count(*) FROM slots WHERE delegation_id IS NOT NULL") == 1
