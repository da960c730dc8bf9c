"""Who goes on with a pool as it was before somebody else changed its mode gives nothing twice, and loses nothing."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv6Network

import asyncpg
import pytest
from pydantic import TypeAdapter
from temporalio.client import Client

from ipam.delegations import held_by, transition
from ipam.errors import PoolBusyError
from ipam.lifecycle import State
from ipam.netbox.binding import AllocationMode, Binding, BoundPool, OnRelease, pool_named
from ipam.netbox.importer.scan import Estate
from ipam.netbox.mode_change.block_adoption import missing_blocks, surround
from ipam.netbox.mode_change.closing import close
from ipam.netbox.mode_change.conversion import convert
from ipam.netbox.mode_change.plan import Conversion
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.reconcile.run import differences
from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.client.pool_modes import PoolModeError
from lastmile.contract.addressing import Purpose
from lastmile.contract.lines import Reference
from lastmile.devstack.netbox import NetBoxServer
from lastmile.services.netbox_import import Carried, ImportVerdict, PrefixImporter
from tests.netbox.changeable import BLOCKS, DATABASE, DIRECT, PREFIX, Changeable, Way
from tests.netbox.test_changing_moment import all_but_the_last_step, last_step, pool_as
from tests.netbox.test_import import FIELD, Existing
from tests.support.direct_env import PREFIXES, SPACE, VRF, refusal
from tests.support.reconciliation import found


class Both(Existing, Changeable):
    """With prefixes of people's, to be imported, and a pool whose mode changes."""


@pytest.fixture
async def kept(
    owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer, temporal_client: Client
) -> AsyncIterator[Both]:
    async with Both.serving(owner_url, owner, standin) as kept, kept.working(temporal_client):
        await kept.have_field()
        yield kept


async def nothing_is_out_of_order(kept: Both) -> None:
    twice = (
        "SELECT prefix FROM delegations WHERE released_at IS NULL AND prefix IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
    )
    assert await kept.owner.fetch(twice) == []
    found = [one.invariant.name async for one in check(kept.database)]
    assert set(found) <= {"incomplete", "foreign_prefix_in_block"}


@pytest.mark.parametrize(
    ("before", "first", "second"),
    [
        (DATABASE, DIRECT, (DIRECT, OnRelease.DEPRECATE)),
        (DATABASE, DIRECT, (BLOCKS, OnRelease.DEPRECATE)),
        (PREFIX, DIRECT, (DIRECT, OnRelease.DEPRECATE)),
        (DIRECT, PREFIX, (DIRECT, OnRelease.DELETE)),
    ],
)
async def test_a_second_change_that_has_read_the_pool_before_the_first_changes_nothing(
    kept: Both, before: Way | None, first: Way, second: tuple[Way, OnRelease]
) -> None:
    await kept.start(before)
    await kept.lines(3)
    seen_by_both = await kept.the_home_pool()
    await (await kept.request(seen_by_both, kept.place(first))).result()
    with pytest.raises(PoolModeError, match="changed by somebody else"):
        await (await kept.request(seen_by_both, kept.place(*second))).result()
    await kept.lines(3, start=50)
    await nothing_is_out_of_order(kept)
    assert len(await kept.agree_as(first)) == 6


@pytest.mark.parametrize("direct", [True, False])
async def test_the_last_step_is_not_taken_from_another_mode(kept: Both, direct: bool) -> None:
    """Also where the lock that keeps changes apart was lost with its connection."""
    there = BLOCKS if direct else DIRECT
    await kept.start(there)
    held = await kept.lines(3)
    id = await kept.owner.fetchval("SELECT id FROM pools")
    wrong = [(Conversion.DATABASE_TO_DELEGATED, PREFIX)]
    wrong += [(Conversion.DIRECT_TO_DELEGATED, PREFIX)] if direct else [(Conversion.DELEGATED_TO_DIRECT, DIRECT)]
    for conversion, way in wrong:
        async with kept.database.platform() as connection:
            with pytest.raises(PoolBusyError, match="changed by somebody else"):
                await convert(connection, conversion, id, kept.place(way, OnRelease.DELETE))
    assert await kept.agree_as(there) == sorted(held)


async def importing(kept: Both) -> tuple[PrefixImporter, Carried]:
    """About to import S-1's prefix, as a run that has read NetBox is."""
    await kept.start(DIRECT)
    await kept.lines(1, start=9)
    await kept.subscriber("S-1")
    await kept.theirs("2001:db8:4000:100::/56", "S-1")
    async with kept.database.platform() as platform:
        pool = await pool_named(platform, "home", "acme")
    with Estate(pool, "acme", FIELD, TypeAdapter(Reference)) as estate:
        await estate.read(kept.netbox.records(vrf_id=kept.vrf, within=pool.prefix))
        [carried] = [one for batch in estate.carried() for one in batch if one.subscriber_ref == "S-1"]
    return PrefixImporter(kept.database, kept.netbox, pool, Purpose.IPV6_PD, run="import-1", actor="ada"), carried


async def test_an_import_that_goes_on_after_the_pool_was_delegated(kept: Both) -> None:
    importer, carried = await importing(kept)
    await kept.change(BLOCKS)
    assert (await importer.import_prefix(carried)).verdict is ImportVerdict.REJECT
    await kept.lines(14, start=50)
    await nothing_is_out_of_order(kept)


async def test_an_import_at_the_very_moment(kept: Both) -> None:
    importer, carried = await importing(kept)
    await all_but_the_last_step(kept, DIRECT)
    async with kept.database.platform() as connection:
        await last_step(kept, connection, DIRECT)
        taking = asyncio.create_task(importer.import_prefix(carried))
        await kept.waiting()
    assert (await taking).verdict is ImportVerdict.REJECT
    await nothing_is_out_of_order(kept)


async def test_an_order_whose_first_pool_is_full_does_not_move_on_to_one_that_has_just_been_delegated(
    kept: Both,
) -> None:
    space = {"prefix": "2001:db8:5000::/55", "vrf": kept.vrf, "status": "container"}
    made = await asyncio.to_thread(kept.peer.create, PREFIXES, **space)
    small = {"name": "small", "prefix": "2001:db8:5000::/55", "tenant": "acme", "vrf": VRF, "delegated_length": 56}
    place = Binding(mode=AllocationMode.DIRECT, prefix_id=made["id"], vrf_id=kept.vrf)
    async with kept.database.platform() as platform:
        await add_pool(platform, Pool.model_validate({"purpose": Purpose.IPV6_PD, "netbox": place, **small}))
    await kept.start(DIRECT)
    await kept.lines(3)  # two in `small`, one in `home`
    id = await kept.owner.fetchval("SELECT id FROM pools WHERE name = 'home'")
    home = BoundPool(id, "home", IPv6Network(SPACE), 56, kept.place(BLOCKS))
    for prefix in await missing_blocks(kept.database, home):
        await surround(kept.database, kept.netbox, home, prefix)
    await close(kept.database, home)
    await kept.begin("S-9", "O-9")
    async with kept.database.platform() as connection:
        await convert(connection, Conversion.DIRECT_TO_DELEGATED, id, kept.place(BLOCKS))
        failure = await refusal(kept.allocate("S-9", "O-9"))
        assert (failure.type, failure.non_retryable) == ("PoolChangingError", False), "it does not roll back"
    slotless = "SELECT count(*) FROM delegations WHERE pool_id = $1 AND slot IS NULL AND released_at IS NULL"
    assert await kept.owner.fetchval(slotless, id) == 0


async def test_a_mending_that_goes_on_after_the_pool_became_direct_leaves_its_records(kept: Both) -> None:
    await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/ipam/vrfs/{kept.vrf}/", {"enforce_unique": False})
    await kept.start(PREFIX)
    [mine] = await kept.lines(1)
    await kept.agree()
    await kept.begin("S-2", "O-2")
    await kept.close("S-2", "O-2", "rolled_back")
    orphan = {"custom_fields": {"lastmile_key": "acme/S-2/ipv6_pd/O-2"}, "tags": [{"slug": "lastmile"}]}
    await asyncio.to_thread(kept.peer.create, PREFIXES, prefix=mine, vrf=kept.vrf, **orphan)
    [difference] = await found(kept, everything=True)
    await kept.owner.execute("UPDATE netbox_records SET since = NULL")
    await kept.change(DIRECT)
    assert "changed meanwhile" in await repair(kept.database, kept.netbox, difference)
    live = kept.record("acme/S-1/ipv6_pd/O-1")
    assert live is not None
    assert live["prefix"] == mine


async def test_a_transition_under_way_when_prefixes_come_to_be_told(kept: Both) -> None:
    await kept.start(BLOCKS)
    await kept.lines(2)
    await kept.beat()
    async with kept.database.tenant("acme") as connection:
        [one] = await held_by(connection, "S-1")
        await transition(connection, one, State.REVOKING, order_id="O-1", reason="ordered")
        changes = asyncio.create_task(kept.change(PREFIX))
        await kept.waiting()
    await changes
    for _ in range(3):
        assert await kept.beat()
    assert [str(one) async for one in differences(kept.database, kept.netbox, everything=True)] == []


async def test_an_activation_at_the_moment_when_its_pool_becomes_direct_tells_netbox(kept: Both) -> None:
    await kept.start(PREFIX)
    await kept.lines(1)
    await kept.begin("S-9", "O-9")
    await kept.allocate("S-9", "O-9")
    await kept.agree()
    await close(kept.database, await pool_as(kept, DIRECT))
    async with kept.database.platform() as connection:
        await last_step(kept, connection, PREFIX)
        activating = asyncio.create_task(kept.activate("S-9", "O-9"))
        await kept.waiting()
    await activating
    await kept.close("S-9", "O-9")
    await kept.beat()
    assert [str(one) async for one in differences(kept.database, kept.netbox, everything=True)] == []
