"""Work that was begun before a pool's mode changed, and continues after it: nothing is assigned twice or lost."""

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
from ipam.modes import DirectMode, OnRelease
from ipam.netbox.binding import BoundPool, pool_named
from ipam.netbox.importer.scan import ImportScan
from ipam.netbox.mode_change.block_adoption import adopt_block, missing_blocks
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
from tests.netbox.mode_change.test_conversion_races import pool_as, prepare_conversion, run_conversion
from tests.netbox.test_import import FIELD, ImportEnv
from tests.support.direct_env import PREFIXES, SPACE, VRF, refusal
from tests.support.pool_mode_env import BLOCKS, DATABASE, DIRECT, PREFIX, PoolModeEnv, Way
from tests.support.reconciliation import found


class ImportModeEnv(ImportEnv, PoolModeEnv):
    """An environment with prefixes to import and a pool whose mode changes."""


@pytest.fixture
async def env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer, temporal_client: Client
) -> AsyncIterator[ImportModeEnv]:
    async with ImportModeEnv.serving(owner_url, owner, netbox_server) as env, env.working(temporal_client):
        await env.have_field()
        yield env


async def nothing_is_out_of_order(env: ImportModeEnv) -> None:
    twice = (
        "SELECT prefix FROM delegations WHERE released_at IS NULL AND prefix IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
    )
    assert await env.owner.fetch(twice) == []
    found = [one.invariant.name async for one in check(env.database)]
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
async def test_change_based_on_an_outdated_pool_is_refused(
    env: ImportModeEnv, before: Way, first: Way, second: tuple[Way, OnRelease]
) -> None:
    await env.start(before)
    await env.lines(3)
    seen_by_both = await env.home_pool()
    await (await env.request(seen_by_both, env.place(first))).result()
    with pytest.raises(PoolModeError, match="changed by another operator"):
        await (await env.request(seen_by_both, env.place(*second))).result()
    await env.lines(3, start=50)
    await nothing_is_out_of_order(env)
    assert len(await env.agree_as(first)) == 6


@pytest.mark.parametrize("direct", [True, False])
async def test_conversion_from_another_mode_is_refused(env: ImportModeEnv, direct: bool) -> None:
    """This holds even if the lock that separates changes was lost with its connection."""
    there = BLOCKS if direct else DIRECT
    await env.start(there)
    held = await env.lines(3)
    id = await env.owner.fetchval("SELECT id FROM pools")
    wrong = [(Conversion.DATABASE_TO_DELEGATED, PREFIX)]
    wrong += [(Conversion.DIRECT_TO_DELEGATED, PREFIX)] if direct else [(Conversion.DELEGATED_TO_DIRECT, DIRECT)]
    for conversion, way in wrong:
        async with env.database.platform() as connection:
            with pytest.raises(PoolBusyError, match="changed by another operator"):
                await convert(connection, conversion, id, env.place(way, OnRelease.DELETE))
    assert await env.agree_as(there) == sorted(held)


async def importing(env: ImportModeEnv) -> tuple[PrefixImporter, Carried]:
    """Return an import that has read the prefix of S-1 in NetBox and not imported it yet."""
    await env.start(DIRECT)
    await env.lines(1, start=9)
    await env.subscriber("S-1")
    await env.foreign("2001:db8:4000:100::/56", "S-1")
    async with env.database.platform() as platform:
        pool = await pool_named(platform, "home", "acme")
    with ImportScan(pool, "acme", FIELD, TypeAdapter(Reference)) as scan:
        await scan.read(env.netbox.records(vrf_id=env.vrf, within=pool.prefix))
        [carried] = [one for batch in scan.carried() for one in batch if one.subscriber_ref == "S-1"]
    return PrefixImporter(env.database, env.netbox, pool, Purpose.IPV6_PD, run="import-1", actor="ada"), carried


async def test_import_into_a_pool_delegated_meanwhile_is_rejected(env: ImportModeEnv) -> None:
    importer, carried = await importing(env)
    await env.change(BLOCKS)
    assert (await importer.import_prefix(carried)).verdict is ImportVerdict.REJECT
    await env.lines(14, start=50)
    await nothing_is_out_of_order(env)


async def test_import_during_the_conversion_is_rejected(env: ImportModeEnv) -> None:
    importer, carried = await importing(env)
    await prepare_conversion(env, DIRECT)
    async with env.database.platform() as connection:
        await run_conversion(env, connection, DIRECT)
        taking = asyncio.create_task(importer.import_prefix(carried))
        await env.wait_for_locks()
    assert (await taking).verdict is ImportVerdict.REJECT
    await nothing_is_out_of_order(env)


async def test_allocation_after_a_full_pool_waits_for_one_being_converted(
    env: ImportModeEnv,
) -> None:
    space = {"prefix": "2001:db8:5000::/55", "vrf": env.vrf, "status": "container"}
    made = await asyncio.to_thread(env.peer.create, PREFIXES, **space)
    small = {"name": "small", "prefix": "2001:db8:5000::/55", "tenant": "acme", "vrf": VRF, "delegated_length": 56}
    place = DirectMode(prefix_id=made["id"], vrf_id=env.vrf)
    async with env.database.platform() as platform:
        await add_pool(platform, Pool.model_validate({"purpose": Purpose.IPV6_PD, "netbox": place, **small}))
    await env.start(DIRECT)
    await env.lines(3)  # two in `small`, one in `home`
    id = await env.owner.fetchval("SELECT id FROM pools WHERE name = 'home'")
    home = BoundPool(id, "home", IPv6Network(SPACE), 56, env.place(BLOCKS))
    for prefix in await missing_blocks(env.database, home):
        await adopt_block(env.database, env.netbox, home, prefix)
    await close(env.database, home)
    await env.begin("S-9", "O-9")
    async with env.database.platform() as connection:
        await convert(connection, Conversion.DIRECT_TO_DELEGATED, id, env.place(BLOCKS))
        failure = await refusal(env.allocate("S-9", "O-9"))
        assert (failure.type, failure.non_retryable) == ("PoolChangingError", False), "the order waits"
    slotless = "SELECT count(*) FROM delegations WHERE pool_id = $1 AND slot IS NULL AND released_at IS NULL"
    assert await env.owner.fetchval(slotless, id) == 0


async def test_repair_after_the_pool_became_direct_keeps_its_records(env: ImportModeEnv) -> None:
    await asyncio.to_thread(env.peer.send, "PATCH", f"/api/ipam/vrfs/{env.vrf}/", {"enforce_unique": False})
    await env.start(PREFIX)
    [mine] = await env.lines(1)
    await env.agree()
    await env.begin("S-2", "O-2")
    await env.close("S-2", "O-2", "rolled_back")
    orphan = {"custom_fields": {"lastmile_key": "acme/S-2/ipv6_pd/O-2"}, "tags": [{"slug": "lastmile"}]}
    await asyncio.to_thread(env.peer.create, PREFIXES, prefix=mine, vrf=env.vrf, **orphan)
    [difference] = await found(env, everything=True)
    await env.owner.execute("UPDATE netbox_records SET since = NULL")
    await env.change(DIRECT)
    assert "changed meanwhile" in await repair(env.database, env.netbox, difference)
    live = env.record("acme/S-1/ipv6_pd/O-1")
    assert live is not None
    assert live["prefix"] == mine


async def test_transition_during_a_change_to_prefix_records_is_reported(env: ImportModeEnv) -> None:
    await env.start(BLOCKS)
    await env.lines(2)
    await env.maintain()
    async with env.database.tenant("acme") as connection:
        [one] = await held_by(connection, "S-1")
        await transition(connection, one, State.REVOKING, order_id="O-1", reason="ordered")
        changes = asyncio.create_task(env.change(PREFIX))
        await env.wait_for_locks()
    await changes
    for _ in range(3):
        assert await env.maintain()
    assert [str(one) async for one in differences(env.database, env.netbox, everything=True)] == []


async def test_activation_during_the_change_to_direct_is_reported(env: ImportModeEnv) -> None:
    await env.start(PREFIX)
    await env.lines(1)
    await env.begin("S-9", "O-9")
    await env.allocate("S-9", "O-9")
    await env.agree()
    await close(env.database, await pool_as(env, DIRECT))
    async with env.database.platform() as connection:
        await run_conversion(env, connection, PREFIX)
        activating = asyncio.create_task(env.activate("S-9", "O-9"))
        await env.wait_for_locks()
    await activating
    await env.close("S-9", "O-9")
    await env.maintain()
    assert [str(one) async for one in differences(env.database, env.netbox, everything=True)] == []
