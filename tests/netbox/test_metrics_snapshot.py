"""The metrics snapshot of pools in NetBox."""

import asyncio

import pytest
from sqlalchemy import text

from ipam.modes import ReportingScope
from ipam.netbox.delegated.block_acquisition import acquire_block
from ipam.netbox.errors import NetBoxExhaustedError
from ipam.netbox.requirements import check as requirements
from ipam.netbox.requirements import set_up
from lastmile.metrics.snapshot import compute_snapshot
from tests.metrics.snapshot_values import values
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import PREFIXES, TENANTS, DirectEnv, refusal
from tests.support.held_requests import HeldRequest

BLOCK = 16
OUTBOX = ("lastmile_netbox_outbox_waiting", "lastmile_netbox_outbox_refused")


async def integrated(env: DirectEnv) -> float | None:
    return values(await compute_snapshot(env.database), "ipv6_netbox_integration_percent").get(("acme",))


async def outbox(env: DirectEnv) -> tuple[float, ...]:
    taken = await compute_snapshot(env.database)
    return tuple(values(taken, name)["home", "acme"] for name in OUTBOX)


async def test_snapshot_counts_prefixes_of_a_direct_pool(direct_env: DirectEnv) -> None:
    await direct_env.pool()
    assert await integrated(direct_env) is None
    await direct_env.provision()
    assert await integrated(direct_env) == 100
    await direct_env.deprovision()
    taken = await compute_snapshot(direct_env.database)
    pool = ("home", "acme", "ipv6_pd")
    assert values(taken, "ipv6_quarantined_prefixes")[pool] == 1
    assert values(taken, "ipv6_pool_free_prefixes")[pool] == 2**16 - 1
    assert values(taken, "lastmile_netbox_outbox_waiting") == {}, "a direct pool has no outbox"


async def test_snapshot_counts_reports_of_a_delegated_pool(delegated_env: DelegatedEnv) -> None:
    await delegated_env.pool(record=ReportingScope.PREFIX)
    assert await outbox(delegated_env) == (0, 0)
    await delegated_env.lines(2)
    assert (await integrated(delegated_env), await outbox(delegated_env)) == (0, (2, 0))
    lag = values(await compute_snapshot(delegated_env.database), "lastmile_netbox_outbox_lag_seconds")
    assert lag["home", "acme"] > 0
    await delegated_env.agree_after_maintenance()
    assert (await integrated(delegated_env), await outbox(delegated_env)) == (100, (0, 0))
    await delegated_env.lines(1, start=3)
    assert await integrated(delegated_env) == pytest.approx(200 / 3)


async def test_snapshot_does_not_count_the_record_of_a_former_holder(delegated_env: DelegatedEnv) -> None:
    """NetBox still shows the prefix as that of the former delegation."""
    await delegated_env.pool(record=ReportingScope.PREFIX)
    await delegated_env.provision()
    await delegated_env.agree_after_maintenance()
    await delegated_env.deprovision()
    await delegated_env.provision("S-1", "O-2")
    assert await integrated(delegated_env) == 0
    await delegated_env.agree_after_maintenance()
    assert await integrated(delegated_env) == 100


async def test_snapshot_counts_refused_reports(delegated_env: DelegatedEnv) -> None:
    await delegated_env.pool(record=ReportingScope.PREFIX)
    await delegated_env.provision()
    await delegated_env.owner.execute("UPDATE netbox_records SET problem = 'not that one'")
    assert await outbox(delegated_env) == (1, 1)


async def test_snapshot_of_a_pool_that_records_blocks_has_no_outbox(delegated_env: DelegatedEnv) -> None:
    await delegated_env.pool()
    await delegated_env.provision()
    assert await integrated(delegated_env) == 100
    assert values(await compute_snapshot(delegated_env.database), "lastmile_netbox_outbox_waiting") == {}


async def test_snapshot_counts_foreign_slots_neither_free_nor_in_quarantine(delegated_env: DelegatedEnv) -> None:
    await delegated_env.pool()
    await delegated_env.provision()
    await delegated_env.owner.execute("UPDATE slots SET free_at = 'infinity' WHERE delegation_id IS NULL AND slot < 4")
    taken = await compute_snapshot(delegated_env.database)
    pool = ("home", "acme", "ipv6_pd")
    assert values(taken, "ipv6_pool_free_prefixes")[pool] == 2**16 - 4
    assert values(taken, "ipv6_quarantined_prefixes")[pool] == 0


async def full(env: DirectEnv) -> float:
    return values(await compute_snapshot(env.database), "lastmile_netbox_pool_full")["home", "acme"]


async def test_direct_pool_filled_by_foreign_prefixes_is_full(direct_env: DirectEnv) -> None:
    await direct_env.pool("2001:db8:4000::/55")
    foreign = await asyncio.to_thread(direct_env.peer.create, PREFIXES, prefix="2001:db8:4000::/56", vrf=direct_env.vrf)
    await direct_env.provision()
    assert await full(direct_env) == 0, "no order needed another prefix"
    for order in ("O-2", "O-3"):
        await direct_env.begin("S-2", order)
        assert (await refusal(direct_env.allocate("S-2", order))).type == "PoolExhaustedError"
        await direct_env.undo("S-2", order)
        await direct_env.close("S-2", order, "rolled_back")
        assert await full(direct_env) == 1
    free = values(await compute_snapshot(direct_env.database), "ipv6_pool_free_prefixes")
    assert free["home", "acme", "ipv6_pd"] == 1, "foreign prefixes of a direct pool are not known"
    await asyncio.to_thread(direct_env.peer.send, "DELETE", f"{PREFIXES}{foreign['id']}/")
    await direct_env.provision("S-2", "O-4")
    assert await full(direct_env) == 0


async def test_pool_left_for_the_next_one_is_full(direct_env: DirectEnv) -> None:
    await direct_env.pool("2001:db8:4000::/55")
    await direct_env.pool("2001:db8:5000::/55", "second")
    for n in range(3):
        await direct_env.provision(f"S-{n}", f"O-{n}")
    pools = values(await compute_snapshot(direct_env.database), "lastmile_netbox_pool_full")
    assert pools == {("home", "acme"): 1, ("second", "acme"): 0}


async def test_delegated_pool_filled_by_foreign_prefixes_is_full(delegated_env: DelegatedEnv) -> None:
    """A /64 occupies each further block, while most of the pool's space is free."""
    await delegated_env.pool("2001:db8:4000::/48")
    await delegated_env.maintain()
    foreign = [await delegated_env.create_foreign_prefix(f"2001:db8:4000:{n:x}000::/64") for n in range(1, 16)]
    await delegated_env.lines(8)
    await delegated_env.maintain()
    assert await full(delegated_env) == 0, "no order needed another block"
    await delegated_env.lines(8, start=9)
    for order in ("O-17", "O-18"):
        await delegated_env.begin("S-17", order)
        assert (await refusal(delegated_env.allocate("S-17", order))).type == "PoolExhaustedError"
        await delegated_env.undo("S-17", order)
        await delegated_env.close("S-17", order, "rolled_back")
        assert await full(delegated_env) == 1
    taken = await compute_snapshot(delegated_env.database)
    assert values(taken, "ipv6_pool_utilization_percent")["home", "acme", "ipv6_pd"] == 100 / 16
    await delegated_env.delete_in_netbox(foreign[0])
    assert await delegated_env.maintain()
    assert await full(delegated_env) == 0
    assert (await delegated_env.lines(1, start=19))[0] == "2001:db8:4000:1000::/56"


async def test_late_refusal_of_an_abandoned_block_does_not_mark_the_pool_full(delegated_env: DelegatedEnv) -> None:
    """NetBox refuses the block late, after the pool has acquired it or given it up."""
    await delegated_env.pool("2001:db8:4000::/51")
    await delegated_env.lines(2 * BLOCK)
    asked = HeldRequest(delegated_env.server, before_arrival=True)
    taking = asyncio.create_task(
        acquire_block(delegated_env.database, delegated_env.netbox, await delegated_env.bound_pool())
    )
    await asked.reached()
    async with delegated_env.database.platform() as connection:
        await connection.execute(text("SELECT FROM pools FOR UPDATE"))
        asked.resume()
        await delegated_env.wait_for_locks()
        await connection.execute(text("DELETE FROM netbox_blocks WHERE state = 'acquiring'"))
    with pytest.raises(NetBoxExhaustedError):
        await taking
    assert await full(delegated_env) == 0


async def test_block_maintenance_marks_a_pool_full_ahead_of_need(delegated_env: DelegatedEnv) -> None:
    await delegated_env.pool("2001:db8:4000::/51")
    await delegated_env.lines(2 * BLOCK - 2)
    assert not await delegated_env.maintain()
    assert await full(delegated_env) == 1


async def test_unreachable_netbox_does_not_mark_a_pool_full(delegated_env: DelegatedEnv) -> None:
    await delegated_env.pool()
    await delegated_env.lines(BLOCK - 2)
    delegated_env.server.stop()
    assert not await delegated_env.maintain()
    assert await full(delegated_env) == 0
    delegated_env.server.start()


async def pass_an_hour(env: DirectEnv) -> None:
    hour = "interval '1 hour'"
    await env.owner.execute(f"UPDATE netbox_blocks SET since = since - {hour}, looked_at = looked_at - {hour}")
    await env.owner.execute(f"UPDATE pools SET created_at = created_at - {hour}")


async def idle(env: DirectEnv) -> bool:
    """Return whether block maintenance has not run for an hour."""
    ages = values(await compute_snapshot(env.database), "lastmile_block_maintenance_age_seconds")
    return ages["home", "acme"] >= 3600


async def test_age_of_block_maintenance_grows_until_it_runs(delegated_env: DelegatedEnv) -> None:
    await delegated_env.pool()
    assert not await idle(delegated_env)
    await pass_an_hour(delegated_env)
    assert await idle(delegated_env), "the pool has no block yet"
    await delegated_env.maintain()
    assert not await idle(delegated_env)
    await pass_an_hour(delegated_env)
    assert await idle(delegated_env)
    await delegated_env.maintain()
    assert not await idle(delegated_env)


async def test_age_of_block_maintenance_grows_without_a_custom_field(delegated_env: DelegatedEnv) -> None:
    """No request fails: NetBox answers, and Lastmile may not write there."""
    await delegated_env.pool()
    [field] = await asyncio.to_thread(delegated_env.peer.found, "/api/extras/custom-fields/?name=lastmile_size")
    await asyncio.to_thread(delegated_env.peer.send, "DELETE", f"/api/extras/custom-fields/{field['id']}/")
    assert not await delegated_env.maintain()
    await pass_an_hour(delegated_env)
    assert not await delegated_env.maintain()
    assert await idle(delegated_env)
    await set_up(delegated_env.netbox.wire, await requirements(delegated_env.netbox.wire, tenants=TENANTS))
    assert await delegated_env.maintain()
    assert not await idle(delegated_env)


async def test_age_of_block_maintenance_stays_low_in_a_full_pool(delegated_env: DelegatedEnv) -> None:
    await delegated_env.pool("2001:db8:4000::/51")
    await delegated_env.lines(2 * BLOCK)
    await delegated_env.maintain()
    await pass_an_hour(delegated_env)
    await delegated_env.maintain()
    assert (await full(delegated_env), await idle(delegated_env)) == (1, False)


async def test_direct_pool_has_no_age_of_block_maintenance(direct_env: DirectEnv) -> None:
    await direct_env.pool()
    assert values(await compute_snapshot(direct_env.database), "lastmile_block_maintenance_age_seconds") == {}
