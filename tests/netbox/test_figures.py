"""What the figures say of pools that are in NetBox, as far as it has been told."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from devstack.netbox import NetBoxServer
from figures.snapshot import measure
from ipam.binding import Record
from tests.figures.reading import values
from tests.netbox.kept import Kept
from tests.netbox.shared_out import Delegated

OUTBOX = ("lastmile_netbox_outbox_waiting", "lastmile_netbox_outbox_refused")


@pytest.fixture
async def direct(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Kept]:
    async with Kept.serving(owner_url, owner, standin) as kept:
        yield kept


@pytest.fixture
async def delegated(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        yield kept


async def integrated(kept: Kept) -> float | None:
    return values(await measure(kept.database), "ipv6_netbox_integration_percent").get(("acme",))


async def outbox(kept: Kept) -> tuple[float, ...]:
    taken = await measure(kept.database)
    return tuple(values(taken, name)["home", "acme"] for name in OUTBOX)


async def test_a_direct_pool(direct: Kept) -> None:
    await direct.pool()
    assert await integrated(direct) is None
    await direct.provision()
    assert await integrated(direct) == 100
    await direct.deprovision()
    taken = await measure(direct.database)
    pool = ("home", "acme", "ipv6_pd")
    assert values(taken, "ipv6_quarantined_prefixes")[pool] == 1
    assert values(taken, "ipv6_pool_free_prefixes")[pool] == 2**16 - 1
    assert values(taken, "lastmile_netbox_outbox_waiting") == {}, "it has none"


async def test_a_delegated_pool_whose_prefixes_are_told_of(delegated: Delegated) -> None:
    await delegated.pool(record=Record.PREFIX)
    assert await outbox(delegated) == (0, 0)
    await delegated.lines(2)
    assert (await integrated(delegated), await outbox(delegated)) == (0, (2, 0))
    lag = values(await measure(delegated.database), "lastmile_netbox_outbox_lag_seconds")
    assert lag["home", "acme"] > 0
    await delegated.agree_in_the_end()
    assert (await integrated(delegated), await outbox(delegated)) == (100, (0, 0))
    await delegated.lines(1, start=3)
    assert await integrated(delegated) == pytest.approx(200 / 3)


async def test_who_had_the_prefix_before_is_not_who_has_it(delegated: Delegated) -> None:
    """NetBox shows the prefix still, as another delegation's."""
    await delegated.pool(record=Record.PREFIX)
    await delegated.provision()
    await delegated.agree_in_the_end()
    await delegated.deprovision()
    await delegated.provision("S-1", "O-2")
    assert await integrated(delegated) == 0
    await delegated.agree_in_the_end()
    assert await integrated(delegated) == 100


async def test_what_netbox_does_not_take(delegated: Delegated) -> None:
    await delegated.pool(record=Record.PREFIX)
    await delegated.provision()
    await delegated.owner.execute("UPDATE netbox_records SET problem = 'not that one'")
    assert await outbox(delegated) == (1, 1)


async def test_a_pool_of_which_netbox_shows_the_blocks(delegated: Delegated) -> None:
    await delegated.pool()
    await delegated.provision()
    assert await integrated(delegated) == 100
    assert values(await measure(delegated.database), "lastmile_netbox_outbox_waiting") == {}


async def test_what_people_have_made_in_a_block_is_out_of_reach_and_does_not_rest(delegated: Delegated) -> None:
    await delegated.pool()
    await delegated.provision()
    await delegated.owner.execute("UPDATE slots SET free_at = 'infinity' WHERE delegation_id IS NULL AND slot < 4")
    taken = await measure(delegated.database)
    pool = ("home", "acme", "ipv6_pd")
    assert values(taken, "ipv6_pool_free_prefixes")[pool] == 2**16 - 4
    assert values(taken, "ipv6_quarantined_prefixes")[pool] == 0
