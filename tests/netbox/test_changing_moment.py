"""What others do at the very moment when a pool changes its mode."""

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
from ipam.netbox.mode_change.block_adoption import missing_blocks, surround
from ipam.netbox.mode_change.closing import close
from ipam.netbox.mode_change.conversion import ConversionNotReadyError, convert
from ipam.netbox.mode_change.plan import Conversion
from lastmile.contract.addressing import Need, Purpose
from lastmile.db.advisory_lock import exclusive
from lastmile.db.database import PlatformConnection
from lastmile.devstack.netbox import NetBoxServer
from tests.netbox.changeable import BLOCKS, DIRECT, PREFIX, Changeable, Way, resting
from tests.support.direct_env import SPACE, VRF, refusal


@pytest.fixture
async def kept(
    owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer, temporal_client: Client
) -> AsyncIterator[Changeable]:
    async with Changeable.serving(owner_url, owner, standin) as kept, kept.working(temporal_client):
        yield kept


async def pool_as(kept: Changeable, way: Way) -> BoundPool:
    id = await kept.owner.fetchval("SELECT id FROM pools")
    return BoundPool(id, "home", IPv6Network(SPACE), 56, kept.place(way))


async def all_but_the_last_step(kept: Changeable, before: Way) -> None:
    if before == DIRECT:
        pool = await pool_as(kept, PREFIX)
        for prefix in await missing_blocks(kept.database, pool):
            await surround(kept.database, kept.netbox, pool, prefix)
    else:
        await kept.agree()
    await close(kept.database, await pool_as(kept, PREFIX))


async def last_step(kept: Changeable, connection: PlatformConnection, before: Way) -> None:
    id = int(await connection.scalar(text("SELECT id FROM pools")))
    if before == DIRECT:
        await convert(connection, Conversion.DIRECT_TO_DELEGATED, id, kept.place(PREFIX))
    else:
        await convert(connection, Conversion.DELEGATED_TO_DIRECT, id, kept.place(DIRECT))


@pytest.mark.parametrize(("before", "after"), [(DIRECT, PREFIX), (PREFIX, DIRECT)])
async def test_a_release_at_the_very_moment(kept: Changeable, before: Way, after: Way) -> None:
    """It has read the delegation as it was, and comes to write when it is otherwise."""
    await kept.start(before)
    await kept.lines(3)
    await kept.begin("S-1", "D-1", "deprovision")
    step, ref = kept.addresses.release_ip_address, kept.ref("S-1", "D-1")
    await kept.run(kept.addresses.revoke_ipv6_lifecycle, ref)
    await all_but_the_last_step(kept, before)
    async with kept.database.platform() as connection:
        await last_step(kept, connection, before)
        releasing = asyncio.create_task(kept.run(step, ref))
        await kept.waiting()
    failure = await refusal(releasing)
    assert (failure.type, failure.non_retryable) == ("StateChangedError", False)
    await kept.run(step, ref)
    await kept.close("S-1", "D-1")
    await kept.change(after)
    for _ in range(3):
        await kept.beat()
    assert len(await kept.agree_as(after)) == 2
    assert len(await resting(kept)) == 1


async def test_an_allocation_before_the_very_moment_comes_first(kept: Changeable) -> None:
    """The closing waits for an allocation that has begun to write, and the conversion for NetBox to know of it."""
    await kept.start(PREFIX)
    await kept.lines(3)
    await kept.agree()
    async with kept.database.tenant("acme") as connection:
        need = Need(Purpose.IPV6_PD, 56, vrf=VRF)
        await allocate(connection, tenant="acme", subscriber_ref="S-9", order_id="O-9", need=need)
        closing = asyncio.create_task(close(kept.database, await pool_as(kept, DIRECT)))
        await kept.waiting()
    await closing
    with pytest.raises(ConversionNotReadyError):
        async with kept.database.platform() as platform:
            await last_step(kept, platform, PREFIX)
    assert await kept.owner.fetchval("SELECT count(*) FROM slots WHERE delegation_id IS NOT NULL") == 4


async def test_a_pool_that_is_not_closed_is_not_converted(kept: Changeable) -> None:
    await kept.start(PREFIX)
    held = await kept.lines(3)
    await kept.agree()
    with pytest.raises(ConversionNotReadyError):
        async with kept.database.platform() as platform:
            await last_step(kept, platform, PREFIX)
    assert await kept.agree_as(PREFIX) == sorted(held)


@pytest.mark.parametrize("before", [DIRECT, PREFIX])
async def test_an_allocation_at_the_very_moment_waits_for_nobody_and_is_retried(kept: Changeable, before: Way) -> None:
    await kept.start(before)
    held = await kept.lines(3)
    await all_but_the_last_step(kept, before)
    await kept.begin("S-9", "O-9")
    async with kept.database.platform() as other:
        await other.execute(text("SELECT FROM delegations LIMIT 1 FOR UPDATE"))

        async def converting() -> None:
            async with kept.database.platform() as connection:
                await last_step(kept, connection, before)

        task = asyncio.create_task(converting())
        await kept.waiting()
        failure = await refusal(kept.allocate("S-9", "O-9"))
        assert (failure.type, failure.non_retryable) == ("PoolChangingError", False)
    await task
    given = await kept.allocate_in_the_end("S-9", "O-9")
    await kept.finish("S-9", "O-9")
    await kept.beat()
    await kept.beat()
    assert await kept.agree_as(PREFIX if before == DIRECT else DIRECT) == sorted([*held, given])


async def test_a_change_and_a_release_do_not_wait_for_each_other(kept: Changeable) -> None:
    await kept.start(DIRECT)
    held = await kept.lines(3)
    await all_but_the_last_step(kept, DIRECT)

    async def changing_it() -> None:
        async with kept.database.platform() as connection:
            await last_step(kept, connection, DIRECT)

    async with kept.database.platform() as releasing:
        await releasing.execute(text("SELECT FROM delegations LIMIT 1 FOR UPDATE"))
        task = asyncio.create_task(changing_it())
        await kept.waiting()
        # As the foreign key does of what is to be removed from NetBox.
        await releasing.execute(text("SELECT FROM pools FOR KEY SHARE"))
    await task
    assert await kept.agree_as(PREFIX) == sorted(held)


SLOW = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(6.5); RETURN NEW; END $$;
CREATE TRIGGER slowly BEFORE UPDATE OF netbox_mode ON pools FOR EACH ROW EXECUTE FUNCTION slowly();
"""


async def test_a_big_pool_has_longer_than_any_step_of_a_workflow(kept: Changeable) -> None:
    """A million prefixes take a minute; a statement of any order is given up after six seconds."""
    await kept.start(DIRECT)
    await kept.lines(3)
    await kept.owner.execute(SLOW)
    await kept.change(PREFIX)
    assert len(await kept.agree_as(PREFIX)) == 3


async def test_a_change_that_stands_still_holds_up_no_release_for_long(kept: Changeable) -> None:
    """As that of a worker that was suspended, or whose connection was cut: PostgreSQL gives it up in seconds."""
    await kept.start(PREFIX)
    _, *held = await kept.lines(3)
    await all_but_the_last_step(kept, PREFIX)
    await kept.begin("S-1", "D-1", "deprovision")
    ref = kept.ref("S-1", "D-1")

    async def standing_still() -> None:
        async with kept.database.long_transaction() as connection:
            await last_step(kept, connection, PREFIX)
            for step in (kept.addresses.revoke_ipv6_lifecycle, kept.addresses.release_ip_address):
                await kept.insist(partial(kept.run, step, ref), most=5)

    with pytest.raises(DBAPIError):
        await standing_still()
    await kept.close("S-1", "D-1")
    await kept.change(BLOCKS)
    assert await kept.agree_as(BLOCKS) == sorted(held)


async def test_a_change_has_its_turn_beside_a_keeper_that_never_rests(kept: Changeable) -> None:
    """As long as NetBox is behind, which can be for hours, the next beat follows at once."""
    await kept.start(PREFIX)
    await kept.lines(1)
    await kept.agree()

    async def keeping() -> None:
        while True:
            async with exclusive(kept.database, MAINTENANCE_LOCK):
                await asyncio.sleep(0.2)

    beside = asyncio.create_task(keeping())
    for way in (BLOCKS, PREFIX) * 3:
        async with asyncio.timeout(5):
            await kept.change(way)
    beside.cancel()
    await asyncio.wait([beside])
    await kept.in_the_end()
    assert len(await kept.agree_as(PREFIX)) == 1
