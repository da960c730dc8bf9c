"""What the figures say of pools that are in NetBox, as far as it has been told."""

import asyncio

import pytest
from sqlalchemy import text

from ipam.netbox.binding import ReportingScope
from ipam.netbox.delegated.block_acquisition import acquire_block
from ipam.netbox.errors import NetBoxExhaustedError
from ipam.netbox.requirements import check as requirements
from ipam.netbox.requirements import set_up
from lastmile.metrics.snapshot import compute_snapshot
from tests.metrics.snapshot_values import values
from tests.support.delegated_env import Delegated
from tests.support.direct_env import PREFIXES, TENANTS, Kept, refusal
from tests.support.held_requests import Held

BLOCK = 16
OUTBOX = ("lastmile_netbox_outbox_waiting", "lastmile_netbox_outbox_refused")


async def integrated(kept: Kept) -> float | None:
    return values(await compute_snapshot(kept.database), "ipv6_netbox_integration_percent").get(("acme",))


async def outbox(kept: Kept) -> tuple[float, ...]:
    taken = await compute_snapshot(kept.database)
    return tuple(values(taken, name)["home", "acme"] for name in OUTBOX)


async def test_a_direct_pool(direct: Kept) -> None:
    await direct.pool()
    assert await integrated(direct) is None
    await direct.provision()
    assert await integrated(direct) == 100
    await direct.deprovision()
    taken = await compute_snapshot(direct.database)
    pool = ("home", "acme", "ipv6_pd")
    assert values(taken, "ipv6_quarantined_prefixes")[pool] == 1
    assert values(taken, "ipv6_pool_free_prefixes")[pool] == 2**16 - 1
    assert values(taken, "lastmile_netbox_outbox_waiting") == {}, "it has none"


async def test_a_delegated_pool_whose_prefixes_are_told_of(delegated: Delegated) -> None:
    await delegated.pool(record=ReportingScope.PREFIX)
    assert await outbox(delegated) == (0, 0)
    await delegated.lines(2)
    assert (await integrated(delegated), await outbox(delegated)) == (0, (2, 0))
    lag = values(await compute_snapshot(delegated.database), "lastmile_netbox_outbox_lag_seconds")
    assert lag["home", "acme"] > 0
    await delegated.agree_in_the_end()
    assert (await integrated(delegated), await outbox(delegated)) == (100, (0, 0))
    await delegated.lines(1, start=3)
    assert await integrated(delegated) == pytest.approx(200 / 3)


async def test_who_had_the_prefix_before_is_not_who_has_it(delegated: Delegated) -> None:
    """NetBox shows the prefix still, as another delegation's."""
    await delegated.pool(record=ReportingScope.PREFIX)
    await delegated.provision()
    await delegated.agree_in_the_end()
    await delegated.deprovision()
    await delegated.provision("S-1", "O-2")
    assert await integrated(delegated) == 0
    await delegated.agree_in_the_end()
    assert await integrated(delegated) == 100


async def test_what_netbox_does_not_take(delegated: Delegated) -> None:
    await delegated.pool(record=ReportingScope.PREFIX)
    await delegated.provision()
    await delegated.owner.execute("UPDATE netbox_records SET problem = 'not that one'")
    assert await outbox(delegated) == (1, 1)


async def test_a_pool_of_which_netbox_shows_the_blocks(delegated: Delegated) -> None:
    await delegated.pool()
    await delegated.provision()
    assert await integrated(delegated) == 100
    assert values(await compute_snapshot(delegated.database), "lastmile_netbox_outbox_waiting") == {}


async def test_what_people_have_made_in_a_block_is_out_of_reach_and_does_not_rest(delegated: Delegated) -> None:
    await delegated.pool()
    await delegated.provision()
    await delegated.owner.execute("UPDATE slots SET free_at = 'infinity' WHERE delegation_id IS NULL AND slot < 4")
    taken = await compute_snapshot(delegated.database)
    pool = ("home", "acme", "ipv6_pd")
    assert values(taken, "ipv6_pool_free_prefixes")[pool] == 2**16 - 4
    assert values(taken, "ipv6_quarantined_prefixes")[pool] == 0


async def full(kept: Kept) -> float:
    return values(await compute_snapshot(kept.database), "lastmile_netbox_pool_full")["home", "acme"]


async def test_a_direct_pool_that_people_have_filled(direct: Kept) -> None:
    await direct.pool("2001:db8:4000::/55")
    theirs = await asyncio.to_thread(direct.peer.create, PREFIXES, prefix="2001:db8:4000::/56", vrf=direct.vrf)
    await direct.provision()
    assert await full(direct) == 0, "it has not been asked for another one"
    for order in ("O-2", "O-3"):
        await direct.begin("S-2", order)
        assert (await refusal(direct.allocate("S-2", order))).type == "PoolExhaustedError"
        await direct.undo("S-2", order)
        await direct.close("S-2", order, "rolled_back")
        assert await full(direct) == 1
    free = values(await compute_snapshot(direct.database), "ipv6_pool_free_prefixes")
    assert free["home", "acme", "ipv6_pd"] == 1, "as far as we know"
    await asyncio.to_thread(direct.peer.send, "DELETE", f"{PREFIXES}{theirs['id']}/")
    await direct.provision("S-2", "O-4")
    assert await full(direct) == 0


async def test_a_pool_that_was_left_for_the_next_one_is_full(direct: Kept) -> None:
    await direct.pool("2001:db8:4000::/55")
    await direct.pool("2001:db8:5000::/55", "second")
    for n in range(3):
        await direct.provision(f"S-{n}", f"O-{n}")
    pools = values(await compute_snapshot(direct.database), "lastmile_netbox_pool_full")
    assert pools == {("home", "acme"): 1, ("second", "acme"): 0}


async def test_a_delegated_pool_that_people_have_filled(delegated: Delegated) -> None:
    """With a /64 in each further block: by arithmetic nearly all of the pool is free."""
    await delegated.pool("2001:db8:4000::/48")
    await delegated.beat()
    theirs = [await delegated.by_hand(f"2001:db8:4000:{n:x}000::/64") for n in range(1, 16)]
    await delegated.lines(8)
    await delegated.beat()
    assert await full(delegated) == 0, "there was no need for another block"
    await delegated.lines(8, start=9)
    for order in ("O-17", "O-18"):
        await delegated.begin("S-17", order)
        assert (await refusal(delegated.allocate("S-17", order))).type == "PoolExhaustedError"
        await delegated.undo("S-17", order)
        await delegated.close("S-17", order, "rolled_back")
        assert await full(delegated) == 1
    taken = await compute_snapshot(delegated.database)
    assert values(taken, "ipv6_pool_utilization_percent")["home", "acme", "ipv6_pd"] == 100 / 16
    await delegated.deleted_by_hand(theirs[0])
    assert await delegated.beat()
    assert await full(delegated) == 0
    assert (await delegated.lines(1, start=19))[0] == "2001:db8:4000:1000::/56"


async def test_a_pool_is_not_full_once_nobody_asks_any_more(delegated: Delegated) -> None:
    """NetBox's word comes late: the block that it was about has been got, or given up, meanwhile."""
    await delegated.pool("2001:db8:4000::/51")
    await delegated.lines(2 * BLOCK)
    asked = Held(delegated.server, on_its_way=True)
    taking = asyncio.create_task(acquire_block(delegated.database, delegated.netbox, await delegated.the_pool()))
    await asked.reached()
    async with delegated.database.platform() as connection:
        await connection.execute(text("SELECT FROM pools FOR UPDATE"))
        asked.go_on()
        await delegated.waiting()
        await connection.execute(text("DELETE FROM netbox_blocks WHERE state = 'acquiring'"))
    with pytest.raises(NetBoxExhaustedError):
        await taking
    assert await full(delegated) == 0


async def test_the_keeper_says_first_that_a_pool_is_full(delegated: Delegated) -> None:
    await delegated.pool("2001:db8:4000::/51")
    await delegated.lines(2 * BLOCK - 2)
    assert not await delegated.beat()
    assert await full(delegated) == 1


async def test_a_pool_is_not_full_because_netbox_is_away(delegated: Delegated) -> None:
    await delegated.pool()
    await delegated.lines(BLOCK - 2)
    delegated.server.stop()
    assert not await delegated.beat()
    assert await full(delegated) == 0
    delegated.server.start()


async def an_hour_passes(kept: Kept) -> None:
    hour = "interval '1 hour'"
    await kept.owner.execute(f"UPDATE netbox_blocks SET since = since - {hour}, looked_at = looked_at - {hour}")
    await kept.owner.execute(f"UPDATE pools SET created_at = created_at - {hour}")


async def idle(kept: Kept) -> bool:
    """Whether nobody has looked after the blocks for an hour."""
    ages = values(await compute_snapshot(kept.database), "lastmile_block_maintenance_age_seconds")
    return ages["home", "acme"] >= 3600


async def test_blocks_that_nobody_looks_after(delegated: Delegated) -> None:
    await delegated.pool()
    assert not await idle(delegated)
    await an_hour_passes(delegated)
    assert await idle(delegated), "it has not even got its first one"
    await delegated.beat()
    assert not await idle(delegated)
    await an_hour_passes(delegated)
    assert await idle(delegated)
    await delegated.beat()
    assert not await idle(delegated)


async def test_a_keeper_that_netbox_lacks_a_custom_field_for(delegated: Delegated) -> None:
    """No request fails: NetBox answers, and nothing may be written there."""
    await delegated.pool()
    [field] = await asyncio.to_thread(delegated.peer.found, "/api/extras/custom-fields/?name=lastmile_size")
    await asyncio.to_thread(delegated.peer.send, "DELETE", f"/api/extras/custom-fields/{field['id']}/")
    assert not await delegated.beat()
    await an_hour_passes(delegated)
    assert not await delegated.beat()
    assert await idle(delegated)
    await set_up(delegated.netbox.wire, await requirements(delegated.netbox.wire, tenants=TENANTS))
    assert await delegated.beat()
    assert not await idle(delegated)


async def test_who_waits_for_a_block_that_netbox_has_not_is_not_idle(delegated: Delegated) -> None:
    await delegated.pool("2001:db8:4000::/51")
    await delegated.lines(2 * BLOCK)
    await delegated.beat()
    await an_hour_passes(delegated)
    await delegated.beat()
    assert (await full(delegated), await idle(delegated)) == (1, False)


async def test_a_pool_without_blocks_has_no_keeper(direct: Kept) -> None:
    await direct.pool()
    assert values(await compute_snapshot(direct.database), "lastmile_block_maintenance_age_seconds") == {}
