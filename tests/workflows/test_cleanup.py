"""The daily cleanup completes revocations that were interrupted, and never acts against an order."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.testing import ActivityEnvironment

from activities.maintenance.cleanup import CleanupActivities
from activities.maintenance.messages import Stuck
from ipam.allocation import Quarantine, allocate, release
from ipam.delegations import held_by, transition
from ipam.lifecycle import State
from lastmile.audit.audit import check
from lastmile.client.orders import AlreadyRunningError, Lastmile
from lastmile.contract import CleanupResult, Decision, ResultStatus
from lastmile.contract.addressing import Addressing, Need, Purpose
from lastmile.db import Database
from lastmile.devstack.nas import Answer, ScriptedNas
from lastmile.radius.dynauth import DynamicAuthorization
from tests.support.faults import Faults, Gate, refused
from tests.support.maintenance import AT_ONCE, Maintenance, held, interrupt_revocation
from tests.support.orders import Orders, log_in, parked, quarantine_seconds

WORD = Decision(by="noc-7", why="ticket 4711")
QUARANTINE = Quarantine(timedelta(hours=1), timedelta(hours=2))


async def parked_past_its_pivot(lastmile: Lastmile, orders: Orders, faults: Faults) -> Any:
    """Return a parked deprovision that has revoked the prefix and cannot release it."""
    await lastmile.execute(orders.provision())
    faults.before["release_ip_address"] = refused
    run = await lastmile.start(orders.deprovision())
    await parked(run)
    return run


async def abandoned(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    run = await parked_past_its_pivot(lastmile, orders, faults)
    await lastmile.decide("acme", orders.ref, "abandon", WORD)
    with pytest.raises(WorkflowFailureError):
        await run.handle.result()


async def test_cleanup_releases_the_prefix_of_an_abandoned_order(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    await abandoned(lastmile, orders, faults)
    assert await held(owner) == ["revoked"]

    result = await maintenance.cleanup(AT_ONCE)

    assert (result.revoking_stuck, result.revoking_completed, result.errors) == (1, 1, 0)
    assert await held(owner) == []
    assert 3500 < await quarantine_seconds(owner) <= 3600, "the revocation confirmed the end of the session"
    # The order stays abandoned, and the subscriber's next order can start.
    assert await owner.fetchval("SELECT status FROM orders WHERE order_id = 'O-9'") == "abandoned"
    faults.before.clear()
    assert (await lastmile.execute(orders.provision("O-10"))).status is ResultStatus.COMPLETED
    assert (await maintenance.cleanup(AT_ONCE)).revoking_stuck == 0


async def test_cleanup_ends_the_session_before_it_releases_the_prefix(
    lastmile: Lastmile,
    orders: Orders,
    database: Database,
    maintenance: Maintenance,
    owner: asyncpg.Connection,
    nas: ScriptedNas,
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    await interrupt_revocation(database, orders)
    result = await maintenance.cleanup(AT_ONCE)

    assert result.revoking_completed == 1
    assert (await nas.next_request()).session == "4F0C-01"
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is True
    assert await owner.fetchval("SELECT count(*) FROM radreply") == 0
    assert 3500 < await quarantine_seconds(owner) <= 3600
    event = await owner.fetchrow("SELECT * FROM delegation_events ORDER BY id DESC LIMIT 1")
    assert (event["to_state"], event["order_id"], event["reason"]) == ("revoked", "O-9", "completed by the cleanup")


async def test_cleanup_without_a_confirmed_disconnect_quarantines_longer(
    lastmile: Lastmile,
    orders: Orders,
    database: Database,
    maintenance: Maintenance,
    owner: asyncpg.Connection,
    nas: ScriptedNas,
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: None
    await interrupt_revocation(database, orders)

    result = await maintenance.cleanup(AT_ONCE)

    assert (result.revoking_completed, result.errors) == (1, 0)
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is False
    assert 7100 < await quarantine_seconds(owner) <= 7200


async def test_cleanup_leaves_a_parked_order(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    run = await parked_past_its_pivot(lastmile, orders, faults)

    result = await maintenance.cleanup(AT_ONCE)

    assert (result.revoking_stuck, result.revoking_completed, result.errors) == (1, 0, 0)
    assert await held(owner) == ["revoked"]
    faults.before.clear()
    await lastmile.decide("acme", orders.ref, "retry_step", WORD)
    assert (await run.result()).status is ResultStatus.COMPLETED


async def test_order_during_the_cleanup_of_its_subscriber_is_refused(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance
) -> None:
    await abandoned(lastmile, orders, faults)
    faults.before = {"finish_revocation": (gate := Gate())}
    cleanup = await maintenance.start("StalePrefixCleanup", AT_ONCE, returns=CleanupResult)
    await gate.reached.wait()

    with pytest.raises(AlreadyRunningError, match=r"FinishRevocation of subscriber .* is short: try again"):
        await lastmile.start(orders.provision("O-10"))
    assert await lastmile.progress("acme", orders.ref) is None

    gate.open()
    assert (await cleanup.result()).revoking_completed == 1
    assert (await lastmile.execute(orders.provision("O-10"))).status is ResultStatus.COMPLETED


async def test_late_cleanup_attempt_leaves_a_later_order(
    lastmile: Lastmile, orders: Orders, database: Database, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """While the late attempt waits for the NAS, another attempt finishes, and a later order is being undone. The late
    attempt has not seen the end of that order's session."""
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    await interrupt_revocation(database, orders)
    nas.script = lambda _: Answer(after=answered)
    answered = asyncio.Event()
    async with DynamicAuthorization(timeout=30, tries=1, in_flight=8) as authorization:
        cleanup = CleanupActivities(database, authorization, QUARANTINE, timedelta(days=365))
        stuck = Stuck(tenant="acme", subscriber_ref=orders.ref)
        late = asyncio.create_task(ActivityEnvironment().run(cleanup.finish_revocation, stuck))
        await nas.next_request()
        async with database.tenant("acme") as connection:
            [first] = await held_by(connection, orders.ref)
            first = await transition(connection, first, State.REVOKED, order_id="O-9", reason="ordered")
            await release(connection, first, QUARANTINE)
            need = Need(Purpose.IPV6_PD, 56)
            await allocate(connection, tenant="acme", subscriber_ref=orders.ref, order_id="O-10", need=need)
        await interrupt_revocation(database, orders)
        answered.set()
        assert (await late).completed == 0
    assert await held(owner) == ["revoking"]


async def test_cleanup_of_one_address_keeps_the_line_in_service(
    lastmile: Lastmile, orders: Orders, database: Database, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    """The IPv6 prefix is stuck in its revocation, and the IPv4 address is in use."""
    await lastmile.execute(orders.provision(addressing=Addressing(ipv4_mode="static")))
    await interrupt_revocation(database, orders, Purpose.IPV6_PD)

    assert (await maintenance.cleanup(AT_ONCE)).revoking_completed == 1

    assert await held(owner) == ["active"]
    assert [row[0] for row in await owner.fetch("SELECT attribute FROM radreply")] == ["Framed-IP-Address"]
    assert await owner.fetchval("SELECT count(*) FROM radcheck WHERE attribute = 'Auth-Type'") == 0


async def test_cleanup_with_one_failure_finishes_the_others(
    lastmile: Lastmile,
    orders: Orders,
    database: Database,
    faults: Faults,
    maintenance: Maintenance,
    owner: asyncpg.Connection,
) -> None:
    for nth in range(3):
        await lastmile.execute(orders.provision(f"O-{nth}", nth))
        await interrupt_revocation(database, orders, nth=nth)

    async def of_the_second() -> None:
        if activity.info().workflow_id == f"subscriber/acme/{orders.ref}-1":
            await refused()

    faults.before["finish_revocation"] = of_the_second
    result = await maintenance.cleanup(AT_ONCE)

    assert (result.revoking_stuck, result.revoking_completed, result.errors) == (3, 2, 1)
    assert result.problems == [f"acme, subscriber {orders.ref}-1: refused by the test"]
    assert await held(owner) == ["revoking"]
    faults.before.clear()
    assert (await maintenance.cleanup(AT_ONCE)).revoking_completed == 1, "the next run does it"


async def test_cleanup_leaves_a_recent_revocation(
    lastmile: Lastmile, orders: Orders, database: Database, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await interrupt_revocation(database, orders)
    assert (await maintenance.cleanup()).revoking_stuck == 0
    await owner.execute("UPDATE delegations SET state_since = state_since - interval '61 minutes'")
    assert (await maintenance.cleanup()).revoking_completed == 1


async def test_cleanup_after_an_hour_releases_the_prefix_of_a_skipped_release(
    lastmile: Lastmile,
    orders: Orders,
    faults: Faults,
    maintenance: Maintenance,
    owner: asyncpg.Connection,
    database: Database,
) -> None:
    run = await parked_past_its_pivot(lastmile, orders, faults)
    await lastmile.decide("acme", orders.ref, "skip_step", WORD)
    assert (await run.result()).status is ResultStatus.DEGRADED
    assert {found.invariant.name async for found in check(database)} == {"not_terminated", "not_released"}

    assert (await maintenance.cleanup()).revoking_stuck == 0, "the revocation began a moment ago"
    await owner.execute("UPDATE delegations SET state_since = state_since - interval '61 minutes'")
    assert (await maintenance.cleanup()).revoking_completed == 1

    assert [found async for found in check(database)] == []
