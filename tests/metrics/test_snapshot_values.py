"""Tests of the values of every snapshot metric after known operations on a real database."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from ipam.lifecycle import State
from lastmile.contract.addressing import Need, Purpose
from lastmile.metrics.counts import PAGES, compact_counts
from lastmile.metrics.snapshot import compute_snapshot
from tests.metrics.snapshot_values import Values, values
from tests.support.allocation_env import AllocationEnv

HOME = ("home", "acme", "ipv6_pd")
SHARED = ("shared", "", "ipv6_pd")
STATES = "ipv6_lifecycle_state_total"


async def figure(env: AllocationEnv, name: str) -> Values:
    return values(await compute_snapshot(env.database), name)


async def states(env: AllocationEnv, tenant: str = "acme") -> dict[str, float]:
    """Return the states with at least one delegation."""
    found = await figure(env, STATES)
    return {state: number for (whose, state), number in found.items() if whose == tenant and number}


async def pool(env: AllocationEnv, of: tuple[str, ...] = HOME) -> tuple[float, float, float]:
    """Return the utilization, the free prefixes and the prefixes in quarantine."""
    taken = await compute_snapshot(env.database)
    names = ("ipv6_pool_utilization_percent", "ipv6_pool_free_prefixes", "ipv6_quarantined_prefixes")
    utilisation, free, resting = [values(taken, name)[of] for name in names]
    return utilisation, free, resting


async def test_compute_snapshot_without_orders_has_every_metric_at_zero(env: AllocationEnv) -> None:
    taken = await compute_snapshot(env.database)
    everyone = ("acme", "other")
    assert values(taken, STATES) == {(tenant, state): 0 for tenant in everyone for state in State}
    assert values(taken, "ipv6_pool_free_prefixes") == {HOME: 16, SHARED: 4}
    assert values(taken, "ipv6_pool_utilization_percent") == {HOME: 0, SHARED: 0}
    assert values(taken, "ipv6_quarantined_prefixes") == {HOME: 0, SHARED: 0}
    for name in ("ipv6_prefix_leak_total", "lastmile_oldest_open_order_seconds"):
        assert values(taken, name) == {(tenant,): 0 for tenant in everyone}
    stuck = {"pending", "allocated", "revoking", "failed", "revoked"}
    assert values(taken, "ipv6_oldest_stuck_seconds") == {(tenant, state): 0 for tenant in everyone for state in stuck}
    assert values(taken, "lastmile_snapshot_timestamp_seconds") == {(): taken.taken_at.timestamp()}
    # Without delegations there are no percentages, and without NetBox and an audit no values of these.
    for name in ("ipv6_active_percent", "ipv6_netbox_integration_percent", "lastmile_netbox_outbox_waiting"):
        assert values(taken, name) == {}
    for name in ("lastmile_audit_violations", "lastmile_audit_timestamp_seconds"):
        assert values(taken, name) == {}


async def test_snapshot_counts_a_delegation_in_each_state(env: AllocationEnv) -> None:
    delegation = (await env.allocate("S-1")).delegation
    assert (await states(env), await pool(env)) == ({"allocated": 1}, (100 / 16, 15, 0))
    delegation = await env.move(delegation, State.ACTIVE)
    assert await states(env) == {"active": 1}
    delegation = await env.move(delegation, State.SUSPENDED)
    assert (await states(env), await pool(env)) == ({"suspended": 1}, (100 / 16, 15, 0))
    delegation = await env.revoke(delegation)
    assert (await states(env), await pool(env)) == ({"revoked": 1}, (100 / 16, 15, 0))
    await env.release(delegation)
    assert (await states(env), await pool(env)) == ({"revoked": 1}, (100 / 16, 15, 1))
    await env.end_quarantines()
    assert await pool(env) == (0, 16, 0)
    await env.owner.execute("DELETE FROM delegations WHERE released_at IS NOT NULL")
    assert await states(env) == {}


async def test_snapshot_of_a_shared_pool_separates_tenants(env: AllocationEnv) -> None:
    need = Need(Purpose.IPV6_PD, 56, pool="shared")
    for n in range(3):
        mine = (await env.allocate(f"S-{n}", need=need)).delegation
        await env.move(mine, State.ACTIVE)
    theirs = (await env.allocate("S-1", need=need, tenant="other")).delegation
    assert (await states(env), await states(env, "other")) == ({"active": 3}, {"allocated": 1})
    assert await figure(env, "ipv6_active_percent") == {("acme",): 100, ("other",): 0}
    assert await pool(env, SHARED) == (100, 0, 0)
    await env.move(theirs, State.ACTIVE, tenant="other")
    assert await figure(env, "ipv6_active_percent") == {("acme",): 100, ("other",): 100}
    assert await figure(env, "ipv6_netbox_integration_percent") == {}, "no pool is meant to be in NetBox"


async def test_snapshot_omits_rolled_back_changes(env: AllocationEnv) -> None:
    transaction = env.owner.transaction()
    await transaction.start()
    await env.owner.execute(
        """
        INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                                 created_by_order, state)
        SELECT 'acme', id, 0, '2001:db8::/56', 'S-1', purpose, 'k', 'o1', 'allocated' FROM pools WHERE name = 'home'
        """
    )
    assert len(await counts(env.owner)) == 1
    await transaction.rollback()
    assert await states(env) == {}


async def test_leak_that_an_operator_acknowledged_raises_no_alert(env: AllocationEnv) -> None:
    for ref in ("S-1", "S-2"):
        await env.allocate(ref)
    await env.owner.execute(
        """
        UPDATE delegations SET state_since = now() - interval '25 hours';
        INSERT INTO acknowledgements (finding, invariant, tenant_id, subject, key, acknowledged_by, why)
        SELECT 'f', 'not_active', tenant_id, prefix::text, id::text, 'noc', 'the line moves' FROM delegations
        WHERE subscriber_ref = 'S-1'
        """
    )
    assert await figure(env, "ipv6_prefix_leak_total") == {("acme",): 1, ("other",): 0}
    await env.owner.execute("UPDATE delegations SET state = 'active' WHERE subscriber_ref = 'S-2'")
    assert await figure(env, "ipv6_prefix_leak_total") == {("acme",): 0, ("other",): 0}
    assert (await figure(env, "ipv6_oldest_stuck_seconds"))["acme", "allocated"] == 0


async def test_snapshot_counts_a_leak_after_a_day(env: AllocationEnv) -> None:
    for ref in ("S-1", "S-2", "S-3"):
        await env.allocate(ref)
    await env.owner.execute(
        """
        UPDATE delegations SET state_since = now() - CASE subscriber_ref WHEN 'S-1' THEN interval '25 hours'
                                                     WHEN 'S-2' THEN interval '23 hours' ELSE '0' END
        """
    )
    assert await figure(env, "ipv6_prefix_leak_total") == {("acme",): 1, ("other",): 0}
    oldest = (await figure(env, "ipv6_oldest_stuck_seconds"))["acme", "allocated"]
    assert 25 * 3600 <= oldest < 25 * 3600 + 60
    await env.owner.execute("UPDATE delegations SET state = 'active' WHERE subscriber_ref = 'S-1'")
    assert await figure(env, "ipv6_prefix_leak_total") == {("acme",): 0, ("other",): 0}


@pytest.mark.parametrize(
    ("state", "stuck"),
    [
        ("pending", True),
        ("revoking", True),
        ("failed", True),
        ("revoked", True),
        ("active", False),
        ("suspended", False),
    ],
)
async def test_snapshot_has_the_age_of_stuck_delegations(env: AllocationEnv, state: str, stuck: bool) -> None:
    await env.allocate("S-1")
    await env.owner.execute("UPDATE delegations SET state = $1, state_since = now() - interval '2 hours'", state)
    found = {key: age for key, age in (await figure(env, "ipv6_oldest_stuck_seconds")).items() if age}
    assert list(found) == ([("acme", state)] if stuck else [])
    assert all(7200 <= age < 7260 for age in found.values())


async def test_snapshot_omits_released_delegations_from_stuck_ones(env: AllocationEnv) -> None:
    await env.revoke_and_release((await env.allocate("S-1")).delegation)
    await env.owner.execute("UPDATE delegations SET state_since = now() - interval '2 hours'")
    assert set((await figure(env, "ipv6_oldest_stuck_seconds")).values()) == {0}


async def test_snapshot_has_the_age_of_the_oldest_open_order(env: AllocationEnv) -> None:
    await env.owner.execute(
        """
        INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, created_at)
        VALUES ('acme', 'o1', 'provision', 'creates', 'S-1', 'd', 'r', 'completed', now() - interval '3 days'),
               ('acme', 'o2', 'provision', 'creates', 'S-2', 'd', 'r', 'rolling_back', now() - interval '2 hours'),
               ('acme', 'o3', 'provision', 'creates', 'S-3', 'd', 'r', 'running', now() - interval '1 hour')
        """
    )
    found = await figure(env, "lastmile_oldest_open_order_seconds")
    assert found["other",] == 0
    assert 7200 <= found["acme",] < 7260


async def test_snapshot_counts_the_age_of_an_order_from_the_end_of_its_overlap(env: AllocationEnv) -> None:
    await env.owner.execute(
        """
        INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, created_at)
        VALUES ('acme', 'o2', 'renumber', 'changes', 'S-1', 'd', 'r', 'running', now() - interval '3 hours')
        """
    )
    await env.allocate("S-1")
    for hours, least in ((1, 0), (-2, 7200)):
        await env.owner.execute(
            "UPDATE delegations SET replaced_by_order = 'o2', replaced_at = now(), replaced_until = now() + $1",
            timedelta(hours=hours),
        )
        found = await figure(env, "lastmile_oldest_open_order_seconds")
        assert least <= found["acme",] < least + 60


async def test_snapshot_with_parked_runs_has_the_age_of_stuck_orders(env: AllocationEnv) -> None:
    await env.owner.execute(
        """
        INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status, created_at)
        VALUES ('acme', 'o1', 'provision', 'creates', 'S-1', 'd', 'waits', 'rolling_back', now() - interval '3 days'),
               ('acme', 'o2', 'provision', 'creates', 'S-2', 'd', 'stuck', 'running', now() - interval '2 hours'),
               ('other', 'o1', 'provision', 'creates', 'S-1', 'd', 'waits too', 'running', now() - interval '3 days')
        """
    )
    taken = await compute_snapshot(env.database, {"waits": "acme", "waits too": "other", "no order's": "acme"})
    assert values(taken, "lastmile_attention_runs") == {("acme",): 2, ("other",): 1}
    oldest = values(taken, "lastmile_oldest_open_order_seconds")
    assert oldest["other",] == 0
    assert 7200 <= oldest["acme",] < 7260


async def test_snapshot_has_the_accepted_orders_that_wait_and_the_age_of_the_oldest(env: AllocationEnv) -> None:
    """An order that waits for another one of its subscriber counts, and is not late."""
    await env.owner.execute(
        """
        INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)
        VALUES ('acme', 'o1', 'provision', 'creates', 'S-1', 'd', 'r', 'running');
        INSERT INTO accepted_orders (tenant_id, order_id, operation, subscriber_ref, digest, urgency, when_busy,
                                     state, reason, body, accepted_at)
        SELECT 'acme', order_id, 'suspend', ref, 'd', 'normal', 'wait', state, reason, body, now() - age
        FROM (VALUES ('o2', 'S-1', 'waiting', NULL, 'x'::bytea, interval '3 days'),
                     ('o3', 'S-2', 'refused', 'no', NULL, '3 days'),
                     ('o4', 'S-3', 'waiting', NULL, 'x', '2 hours'),
                     ('o5', 'S-3', 'waiting', NULL, 'x', '1 hour'))
             given (order_id, ref, state, reason, body, age)
        """
    )
    taken = await compute_snapshot(env.database)
    assert values(taken, "lastmile_accepted_orders_waiting") == {("acme",): 3, ("other",): 0}
    oldest = values(taken, "lastmile_oldest_accepted_order_seconds")
    assert oldest["other",] == 0
    assert 7200 <= oldest["acme",] < 7260


async def test_snapshot_has_the_devices_that_wait(env: AllocationEnv) -> None:
    await env.owner.execute(
        """
        INSERT INTO pending_device_calls
            (tenant_id, kind, identity, subscriber_ref, switches_on, device, waits_for, order_id, since, due_at)
        SELECT 'acme', 'cpe', identity, 'S-1', true, '{}', 'the CPE is offline', 'O-1', now() - age, now()
        FROM (VALUES ('a', interval '1 hour'), ('b', '2 hours')) given (identity, age)
        """
    )
    taken = await compute_snapshot(env.database)
    none = {("acme", "onu"): 0, ("other", "cpe"): 0, ("other", "onu"): 0}
    assert values(taken, "lastmile_pending_device_calls") == {("acme", "cpe"): 2, **none}
    oldest = values(taken, "lastmile_oldest_pending_device_call_seconds")
    assert 7200 <= oldest.pop(("acme", "cpe")) < 7260
    assert oldest == none


async def test_snapshot_has_the_events_by_webhook_that_are_kept(env: AllocationEnv) -> None:
    """A received event counts once it is older than its mapping takes."""
    await env.owner.execute(
        """
        INSERT INTO hook_events (tenant_id, source, event_id, event, state, reason, order_ids, body, received_at)
        SELECT 'acme', 'crm', state || age, 'service.add', state, reason, '{}', body, now() - age
        FROM (VALUES ('failed', 'no plan', 'x'::bytea, interval '1 second'), ('received', NULL, 'x', '1 hour'),
                     ('received', NULL, 'x', '1 second'), ('ordered', NULL, NULL, '1 hour'),
                     ('ignored', 'a test', NULL, '1 hour')) given (state, reason, body, age)
        """
    )
    assert values(await compute_snapshot(env.database), "lastmile_hook_events_kept") == {("acme",): 2, ("other",): 0}


async def test_snapshot_has_the_findings_of_the_audit(env: AllocationEnv) -> None:
    await env.owner.execute(
        """
        INSERT INTO audit_findings (invariant, violations, repaired, acknowledged, checked_at)
        VALUES ('overlap', 0, 0, 3, '2026-05-03 14:00Z'), ('leaked_slot', 2, 1, 0, '2026-05-03 14:01Z')
        """
    )
    assert await figure(env, "lastmile_audit_acknowledged") == {("overlap",): 3, ("leaked_slot",): 0}
    assert await figure(env, "lastmile_audit_violations") == {("overlap",): 0, ("leaked_slot",): 2}
    assert await figure(env, "lastmile_audit_timestamp_seconds") == {(): 1777816800}


async def test_snapshot_of_the_largest_pool_has_its_utilization(env: AllocationEnv) -> None:
    """The pool has as many slots as a bigint can count."""
    await env.pool("2001:db8:8000::/34", "addresses", purpose=Purpose.IPV6_ADDRESS, delegated_length=128)
    await env.allocate("S-1", need=Need(Purpose.IPV6_ADDRESS, 128))
    utilisation, free, _ = await pool(env, ("addresses", "acme", "ipv6_address"))
    assert 0 < utilisation < 1e-15
    assert free == pytest.approx(2**62)


async def test_compact_counts_keeps_the_sums_and_leaves_few_rows(env: AllocationEnv) -> None:
    for n in range(10):
        await env.revoke_and_release((await env.allocate(f"S-{n}")).delegation)
    await env.move((await env.allocate("S-1", "o2")).delegation, State.ACTIVE)
    counted = "SELECT state, held, sum(number) FROM delegation_counts GROUP BY 1, 2 HAVING sum(number) <> 0 ORDER BY 1"
    before = await env.owner.fetch(counted)
    rows = await env.owner.fetchval("SELECT count(*) FROM delegation_counts")
    await compact_counts(env.database)
    assert await env.owner.fetch(counted) == before
    assert await env.owner.fetchval("SELECT count(*) FROM delegation_counts") == len(before) == 2 < rows


async def test_compact_counts_of_many_pages_runs_in_parts(env: AllocationEnv) -> None:
    await env.allocate("S-1")
    await env.owner.execute(
        """
        INSERT INTO delegation_counts
        SELECT tenant_id, pool_id, state, held, in_netbox, 1 - n % 2 * 2
        FROM delegation_counts, generate_series(1, 200000) n
        """
    )
    pages = "SELECT pg_relation_size('delegation_counts') / 8192"
    assert await env.owner.fetchval(pages) > PAGES
    await compact_counts(env.database)
    assert await states(env) == {"allocated": 1}
    assert await env.owner.fetchval("SELECT count(*) FROM delegation_counts") < 10


async def test_compact_counts_during_traffic_loses_no_change(env: AllocationEnv) -> None:
    """Concurrent runs compact the table during changes: no change is lost or counted twice."""

    async def traffic(n: int) -> None:
        for order in ("o1", "o2", "o3"):
            delegation = (await env.allocate(f"S-{n}", order)).delegation
            await env.revoke_and_release(await env.move(delegation, State.ACTIVE))

    async def taker() -> None:
        for _ in range(10):
            await compute_snapshot(env.database)

    await asyncio.gather(*(traffic(n) for n in range(8)), *(taker() for _ in range(3)))
    assert await states(env) == {"revoked": 24}
    assert await env.owner.fetch("SELECT * FROM delegation_census") == await counts(env.owner)


async def counts(owner: asyncpg.Connection) -> list[asyncpg.Record]:
    return list(
        await owner.fetch(
            """
            SELECT tenant_id, pool_id, state, held, in_netbox, sum(number)::bigint AS number FROM delegation_counts
            GROUP BY 1, 2, 3, 4, 5 HAVING sum(number) <> 0
            """
        )
    )


async def test_recount_finds_changes_that_bypassed_the_triggers(env: AllocationEnv) -> None:
    await env.allocate("S-1")
    await env.owner.execute(
        """
        SET session_replication_role = replica;
        UPDATE delegations SET state = 'active';
        SET session_replication_role = DEFAULT
        """
    )
    assert await states(env) == {"allocated": 1}
    assert await env.owner.fetchval("SELECT lastmile_recount('other')") == 0
    assert await env.owner.fetchval("SELECT lastmile_recount('acme')") == 2
    assert await states(env) == {"active": 1}
    assert await env.owner.fetchval("SELECT lastmile_recount()") == 0
