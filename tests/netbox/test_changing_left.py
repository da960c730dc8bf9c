"""Blocks around a pool that NetBox chooses from: for as long as a change goes on, or left by one that was cut off."""

from collections.abc import AsyncIterator
from ipaddress import IPv6Network

import asyncpg
import pytest
from temporalio.client import Client

from ipam.netbox.errors import ConnectionLostError
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import LOST
from tests.netbox.changeable import BLOCK, DIRECT, PREFIX, Changeable
from tests.netbox.test_changing_moment import all_but_the_last_step
from tests.support.direct_env import PREFIXES, SPACE, refusal

BLOCK_LENGTH = 52


@pytest.fixture
async def kept(
    owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer, temporal_client: Client
) -> AsyncIterator[Changeable]:
    async with Changeable.serving(owner_url, owner, standin) as kept, kept.working(temporal_client):
        await kept.start(DIRECT)
        await kept.lines(3)
        yield kept


async def people_have_the_rest(kept: Changeable) -> None:
    """Of the pool: all but what would be its first block."""
    start = IPv6Network(SPACE)
    for length in range(start.prefixlen + 1, BLOCK_LENGTH + 1):
        theirs = IPv6Network((int(start.network_address) + (1 << (128 - length)), length))
        await kept.by_hand(str(theirs))


async def an_hour_later(kept: Changeable) -> None:
    await kept.owner.execute("UPDATE netbox_blocks SET since = since - interval '1 hour'")
    await kept.owner.execute("UPDATE pools SET netbox_closed_until = NULL")


async def test_an_order_while_blocks_take_all_that_is_free(kept: Changeable) -> None:
    """NetBox gives to nobody what is free in a block, unless it is asked for that."""
    await people_have_the_rest(kept)
    await all_but_the_last_step(kept, DIRECT)
    await kept.owner.execute("UPDATE pools SET netbox_closed_until = NULL")
    given = await kept.lines(BLOCK - 3, start=50)
    assert len(set(given)) == BLOCK - 3
    await kept.begin("S-99", "O-99")
    assert (await refusal(kept.allocate("S-99", "O-99"))).type == "PoolExhaustedError"
    await kept.undo("S-99", "O-99")
    await kept.close("S-99", "O-99", "rolled_back")
    await kept.change(PREFIX)
    assert set(given) < set(
        await kept.owner.fetchval("SELECT array_agg(prefix::text) FROM delegations WHERE slot >= 0")
    )


async def test_blocks_that_a_change_has_left_go_back(kept: Changeable) -> None:
    await people_have_the_rest(kept)
    await all_but_the_last_step(kept, DIRECT)
    assert await kept.beat()
    assert len(kept.containers()) == 1, "the same change may go on"
    await an_hour_later(kept)
    assert await kept.beat()
    assert kept.containers() == []
    assert await kept.owner.fetchval("SELECT count(*) FROM slots") == 0
    await kept.begin("S-9", "O-9")
    assert await kept.allocate("S-9", "O-9") == "2001:db8:4000:300::/56"


async def test_a_block_that_was_being_taken_goes_back(kept: Changeable) -> None:
    kept.server.faults.next(LOST, method="POST", path=PREFIXES)
    with pytest.raises(ConnectionLostError):
        await all_but_the_last_step(kept, DIRECT)
    assert len(kept.containers()) == 1
    await an_hour_later(kept)
    assert await kept.beat()
    assert kept.containers() == []
    assert len(await kept.agree_as(DIRECT)) == 3
