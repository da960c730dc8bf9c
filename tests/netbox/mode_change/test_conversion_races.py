"""Allocations, releases and maintenance that run at the same time as the conversion of a pool."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from ipaddress import IPv6Network

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from temporalio.client import Client

from ipam.allocation import allocate
from ipam.netbox.binding import BoundPool
from ipam.netbox.delegated.blocks import MAINTENANCE_LOCK
from ipam.netbox.mode_change.block_adoption import adopt_block, missing_blocks
from ipam.netbox.mode_change.closing import close
from ipam.netbox.mode_change.conversion import ConversionNotReadyError, convert
from ipam.netbox.mode_change.plan import Conversion
from lastmile.contract.addressing import Need, Purpose
from lastmile.db.advisory_lock import exclusive
from lastmile.db.database import PlatformConnection
from lastmile.devstack.netbox import NetBoxServer
from tests.support.direct_env import SPACE, VRF, refusal
from tests.support.pool_mode_env import BLOCKS, DATABASE, DIRECT, PREFIX, PoolModeEnv, Way, resting


@pytest.fixture
async def env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer, temporal_client: Client
) -> AsyncIterator[PoolModeEnv]:
    async with PoolModeEnv.serving(owner_url, owner, netbox_server) as env, env.working(temporal_client):
        yield env


async def pool_as(env: PoolModeEnv, way: Way) -> BoundPool:
    id = await env.owner.fetchval("SELECT id FROM pools")
    return BoundPool(id, "home", IPv6Network(SPACE), 56, env.place(way))


async def prepare_conversion(env: PoolModeEnv, before: Way) -> None:
    if before == DIRECT:
        pool = await pool_as(env, PREFIX)
        for prefix in await missing_blocks(env.database, pool):
            await adopt_block(env.database, env.netbox, pool, prefix)
    else:
        await env.agree()
    await close(env.database, await pool_as(env, PREFIX))


async def run_conversion(env: PoolModeEnv, connection: PlatformConnection, before: Way) -> None:
    id = int(await connection.scalar(text("SELECT id FROM pools")))
    if before == DIRECT:
        await convert(connection, Conversion.DIRECT_TO_DELEGATED, id, env.place(PREFIX))
    else:
        await convert(connection, Conversion.DELEGATED_TO_DIRECT, id, env.place(DIRECT))


@pytest.mark.parametrize(("before", "after"), [(DIRECT, PREFIX), (PREFIX, DIRECT)])
async def test_release_during_conversion_fails_once_and_succeeds_on_retry(
    env: PoolModeEnv, before: Way, after: Way
) -> None:
    """The release has read the delegation before the conversion, and writes after it."""
    await env.start(before)
    await env.lines(3)
    await env.begin("S-1", "D-1", "deprovision")
    step, ref = env.addresses.release_ip_address, env.ref("S-1", "D-1")
    await env.run(env.addresses.revoke_ipv6_lifecycle, ref)
    await prepare_conversion(env, before)
    async with env.database.platform() as connection:
        await run_conversion(env, connection, before)
        releasing = asyncio.create_task(env.run(step, ref))
        await env.wait_for_locks()
    failure = await refusal(releasing)
    assert (failure.type, failure.non_retryable) == ("StateChangedError", False)
    await env.run(step, ref)
    await env.close("S-1", "D-1")
    await env.change(after)
    for _ in range(3):
        await env.maintain()
    assert len(await env.agree_as(after)) == 2
    assert len(await resting(env)) == 1


async def test_closing_waits_for_an_allocation_that_has_begun(env: PoolModeEnv) -> None:
    """The conversion then waits until NetBox has a record of the new prefix."""
    await env.start(PREFIX)
    await env.lines(3)
    await env.agree()
    async with env.database.tenant("acme") as connection:
        need = Need(Purpose.IPV6_PD, 56, vrf=VRF)
        await allocate(connection, tenant="acme", subscriber_ref="S-9", order_id="O-9", need=need)
        closing = asyncio.create_task(close(env.database, await pool_as(env, DIRECT)))
        await env.wait_for_locks()
    await closing
    with pytest.raises(ConversionNotReadyError):
        async with env.database.platform() as platform:
            await run_conversion(env, platform, PREFIX)
    assert await env.owner.fetchval("SELECT count(*) FROM slots WHERE delegation_id IS NOT NULL") == 4


async def test_conversion_of_an_open_pool_is_refused(env: PoolModeEnv) -> None:
    await env.start(PREFIX)
    held = await env.lines(3)
    await env.agree()
    with pytest.raises(ConversionNotReadyError):
        async with env.database.platform() as platform:
            await run_conversion(env, platform, PREFIX)
    assert await env.agree_as(PREFIX) == sorted(held)


@pytest.mark.parametrize("before", [DIRECT, PREFIX])
async def test_allocation_during_conversion_fails_at_once_and_succeeds_on_retry(env: PoolModeEnv, before: Way) -> None:
    await env.start(before)
    held = await env.lines(3)
    await prepare_conversion(env, before)
    await env.begin("S-9", "O-9")
    async with env.database.platform() as other:
        await other.execute(text("SELECT FROM delegations LIMIT 1 FOR UPDATE"))

        async def converting() -> None:
            async with env.database.platform() as connection:
                await run_conversion(env, connection, before)

        task = asyncio.create_task(converting())
        await env.wait_for_locks()
        failure = await refusal(env.allocate("S-9", "O-9"))
        assert (failure.type, failure.non_retryable) == ("PoolChangingError", False)
    await task
    given = await env.allocate_with_retries("S-9", "O-9")
    await env.finish("S-9", "O-9")
    await env.maintain()
    await env.maintain()
    assert await env.agree_as(PREFIX if before == DIRECT else DIRECT) == sorted([*held, given])


async def test_conversion_and_release_do_not_deadlock(env: PoolModeEnv) -> None:
    await env.start(DIRECT)
    held = await env.lines(3)
    await prepare_conversion(env, DIRECT)

    async def changing_it() -> None:
        async with env.database.platform() as connection:
            await run_conversion(env, connection, DIRECT)

    async with env.database.platform() as releasing:
        await releasing.execute(text("SELECT FROM delegations LIMIT 1 FOR UPDATE"))
        task = asyncio.create_task(changing_it())
        await env.wait_for_locks()
        # The foreign key of a pending removal takes this lock.
        await releasing.execute(text("SELECT FROM pools FOR KEY SHARE"))
    await task
    assert await env.agree_as(PREFIX) == sorted(held)


SLOW = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(6.5); RETURN NEW; END $$;
CREATE TRIGGER slowly BEFORE UPDATE OF mode ON pools FOR EACH ROW EXECUTE FUNCTION slowly();
"""


async def test_conversion_of_a_large_pool_may_exceed_the_statement_timeout(env: PoolModeEnv) -> None:
    """A pool of a million prefixes takes a minute. A statement of a step is cancelled after six seconds."""
    await env.start(DIRECT)
    await env.lines(3)
    await env.owner.execute(SLOW)
    await env.change(PREFIX)
    assert len(await env.agree_as(PREFIX)) == 3


async def test_stalled_conversion_is_aborted_and_releases_continue(env: PoolModeEnv) -> None:
    """A suspended worker, or a lost connection: PostgreSQL ends the idle transaction after seconds."""
    await env.start(PREFIX)
    _, *held = await env.lines(3)
    await prepare_conversion(env, PREFIX)
    await env.begin("S-1", "D-1", "deprovision")
    ref = env.ref("S-1", "D-1")

    async def standing_still() -> None:
        async with env.database.long_transaction() as connection:
            await run_conversion(env, connection, PREFIX)
            for step in (env.addresses.revoke_ipv6_lifecycle, env.addresses.release_ip_address):
                await env.retry(partial(env.run, step, ref), most=5)

    with pytest.raises(DBAPIError):
        await standing_still()
    await env.close("S-1", "D-1")
    await env.change(BLOCKS)
    assert await env.agree_as(BLOCKS) == sorted(held)


async def test_mode_change_gets_the_lock_beside_busy_block_maintenance(env: PoolModeEnv) -> None:
    """While prefixes wait to be reported, which can take hours, one maintenance run follows the other at once."""
    await env.start(PREFIX)
    await env.lines(1)
    await env.agree()

    async def keeping() -> None:
        while True:
            async with exclusive(env.database, MAINTENANCE_LOCK):
                await asyncio.sleep(0.2)

    beside = asyncio.create_task(keeping())
    for way in (BLOCKS, PREFIX) * 3:
        async with asyncio.timeout(5):
            await env.change(way)
    beside.cancel()
    await asyncio.wait([beside])
    await env.report_all()
    assert len(await env.agree_as(PREFIX)) == 1


async def test_blocks_left_around_a_pool_of_the_database_cost_it_no_slot(env: PoolModeEnv) -> None:
    """Its slots lie in those blocks and are in use; the next change continues with the blocks."""
    await env.start(DATABASE)
    await env.lines(3)
    pool = await pool_as(env, PREFIX)
    for prefix in await missing_blocks(env.database, pool):
        await adopt_block(env.database, env.netbox, pool, prefix)
    slots = await env.owner.fetchval("SELECT count(*) FROM slots")
    await env.pass_an_hour()
    assert len(env.containers()) == 1
    assert await env.owner.fetchval("SELECT count(*) FROM slots") == slots > 3
    await env.lines(2, start=50)
    await env.change(BLOCKS)
    assert len(await env.agree_as(BLOCKS)) == 5
