"""The daily cleanup apart from revocations: leaks, deletion of old delegations, history; parts are independent."""

import asyncpg
import pytest
from structlog.testing import capture_logs
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from lastmile.client.orders import Lastmile
from lastmile.contract import Cleanup, CleanupResult, CleanupState, Decision, ResultStatus
from tests.support.faults import Faults, refused
from tests.support.maintenance import AT_ONCE, Maintenance, ended
from tests.support.orders import Orders, parked, what_is_there

PREFIX_LEAK = "ipv6_lifecycle.prefix_leak"


async def left(owner: asyncpg.Connection, table: str = "delegations") -> int:
    return int(await owner.fetchval(f"SELECT count(*) FROM {table}"))


async def leak(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    """Provision a subscriber whose address is never activated."""
    faults.before["activate_ipv6_lifecycle"] = refused
    assert (await lastmile.execute(orders.provision())).status is ResultStatus.DEGRADED


async def test_leak_is_logged_with_its_subscriber_and_order(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    await leak(lastmile, orders, faults)
    assert (await maintenance.cleanup()).allocated_stale == 0, "younger than a day"
    await owner.execute("UPDATE delegations SET state_since = state_since - interval '25 hours'")

    with capture_logs() as logs:
        result = await maintenance.cleanup()

    assert (result.allocated_stale, result.errors) == (1, 0)
    [told] = [entry for entry in logs if entry["event"] == PREFIX_LEAK]
    assert (told["tenant"], told["subscriber_ref"], told["order_id"], told["order_status"], told["log_level"]) == (
        "acme",
        orders.ref,
        "O-1",
        "degraded",
        "warning",
    )
    [summed] = [entry for entry in logs if entry["event"] == "ipv6_lifecycle.stale_allocated_detected"]
    assert summed["count"] == 1
    prefix = await owner.fetchval("SELECT prefix::text FROM delegations")
    assert prefix not in str(logs), "an address is personal data"


async def test_leak_of_a_parked_order_is_logged(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance
) -> None:
    """Its prefix is a leak like any other, and an operator must see it."""
    faults.before["activate_ipv6_lifecycle"] = faults.before["create_billing_service"] = refused
    faults.before["release_ip_address"] = refused
    run = await lastmile.start(orders.provision())
    await parked(run)

    with capture_logs() as logs:
        assert (await maintenance.cleanup(AT_ONCE)).allocated_stale == 1

    [told] = [entry for entry in logs if entry["event"] == PREFIX_LEAK]
    assert told["order_status"] == "rolling_back"
    await lastmile.decide("acme", orders.ref, "abandon", Decision(by="noc-7", why="seen"))


async def test_cleanup_deletes_old_delegations_and_keeps_their_events(
    maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    """The number exceeds one batch."""
    await ended(owner, 25_000, days=91)
    with capture_logs() as logs:
        result = await maintenance.cleanup()
    assert (result.revoked_deleted, result.errors) == (25_000, 0)
    assert (await left(owner), await left(owner, "delegation_events")) == (0, 25_000)
    [completed] = [entry for entry in logs if entry["event"] == "ipv6_lifecycle.cleanup_completed"]
    assert completed["revoked_deleted"] == 25_000
    assert (await maintenance.cleanup()).revoked_deleted == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("released_at = now() - interval '89 days'", "younger than 90 days"),
        ("released_at = NULL", "it holds its slot"),
        ("created_by_order = 'O-1'", "its order is open, and its key must stay in use"),
    ],
)
async def test_cleanup_keeps_delegations_in_use(
    maintenance: Maintenance, owner: asyncpg.Connection, change: str, why: str
) -> None:
    await owner.execute(
        "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
        " VALUES ('acme', 'O-1', 'provision', 'creates', 'E-2', 'd', 'r', 'running')"
    )
    await ended(owner, 4, days=91)
    await owner.execute(f"UPDATE delegations SET {change} WHERE subscriber_ref = 'E-2'")
    assert (await maintenance.cleanup()).revoked_deleted == 3
    assert await owner.fetchval("SELECT subscriber_ref FROM delegations") == "E-2", why


async def test_cleanup_keeps_delegations_in_quarantine(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.deprovision())
    at_once = Cleanup(revoked_days=0)
    assert (await maintenance.cleanup(at_once)).revoked_deleted == 0
    await owner.execute("UPDATE delegations SET released_at = released_at - interval '2 hours'")
    assert (await maintenance.cleanup(at_once)).revoked_deleted == 1


async def test_returning_subscriber_gets_the_prefix_of_a_deleted_delegation(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    """The slot still records the last holder."""
    first = await lastmile.execute(orders.provision())
    await lastmile.execute(orders.deprovision())
    await owner.execute("UPDATE delegations SET released_at = released_at - interval '91 days'")
    assert (await maintenance.cleanup()).revoked_deleted == 1
    again = await lastmile.execute(orders.provision("O-2"))
    assert again.created.ipv6_prefix == first.created.ipv6_prefix


async def test_cleanup_purges_history_after_the_audit_period(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.deprovision())
    entries, events = await left(owner, "audit_log"), await left(owner, "delegation_events")
    assert (await maintenance.cleanup()).audit_entries_purged == 0
    await owner.execute("UPDATE audit_log SET at = at - interval '366 days'")
    await owner.execute("UPDATE delegation_events SET at = at - interval '366 days'")
    result = await maintenance.cleanup()
    assert (result.audit_entries_purged, result.events_purged) == (entries, events)


async def test_dry_run_counts_the_same_and_changes_nothing(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    await leak(lastmile, orders, faults)
    await ended(owner, 6_000, days=91)
    await owner.execute("UPDATE audit_log SET at = at - interval '366 days'")
    await owner.execute("UPDATE delegation_events SET at = at - interval '366 days'")
    await owner.execute(
        "UPDATE delegations SET released_at = NULL WHERE subscriber_ref = 'E-7'"  # a stuck revocation
    )
    there = await what_is_there(owner), await left(owner), await left(owner, "audit_log")

    with capture_logs() as logs:
        dry = await maintenance.cleanup(AT_ONCE.model_copy(update={"dry_run": True}))

    assert (await what_is_there(owner), await left(owner), await left(owner, "audit_log")) == there
    assert [entry for entry in logs if entry["log_level"] != "debug"] == [], "nothing has happened"
    assert (dry.revoking_stuck, dry.revoking_completed, dry.allocated_stale, dry.revoked_deleted) == (1, 0, 1, 5_999)
    wet = await maintenance.cleanup(AT_ONCE)
    # The events of the revocation that was just finished are old enough too.
    assert (dry.events_purged, wet.events_purged) == (5_999, 6_000)
    [stuck, leaked] = dry.notes
    assert leaked.startswith(f"acme, subscriber {orders.ref}: allocated since ")
    assert leaked.endswith("by order O-1, which is degraded"), leaked
    assert stuck == "acme, subscriber E-7: the revocation has not ended"
    counted = {"dry_run", "revoking_completed", "events_purged", "notes"}
    assert wet.model_dump(exclude=counted) == dry.model_dump(exclude=counted)
    assert wet.revoking_completed == 1


async def test_failed_part_delays_no_other_and_fails_the_run(
    lastmile: Lastmile, orders: Orders, faults: Faults, maintenance: Maintenance, owner: asyncpg.Connection
) -> None:
    await ended(owner, 3, days=91)
    faults.before["report_leaks"] = refused
    with capture_logs() as logs, pytest.raises(WorkflowFailureError) as failure:
        await maintenance.cleanup()
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message) == (
        "CleanupIncomplete",
        "not done, and left to the next run: report leaked prefixes",
    )
    result = CleanupResult.model_validate(cause.details[0])
    assert (result.revoked_deleted, result.errors) == (3, 1)
    assert result.problems == ["report leaked prefixes: refused by the test"]
    [failed] = [entry for entry in logs if entry["event"] == "ipv6_lifecycle.cleanup_failed"]
    assert (failed["errors"], failed["failed"]) == (1, ["report leaked prefixes"])
    assert not [entry for entry in logs if entry["event"] == "ipv6_lifecycle.cleanup_completed"]


async def test_cleanup_continues_from_the_given_state(maintenance: Maintenance, owner: asyncpg.Connection) -> None:
    await ended(owner, 5, days=91)
    before = CleanupState(part=3, result=CleanupResult(revoked_deleted=70))
    assert (await maintenance.cleanup(Cleanup(so_far=before))).revoked_deleted == 70
    before = CleanupState(part=2, result=CleanupResult(revoked_deleted=70))
    assert (await maintenance.cleanup(Cleanup(so_far=before))).revoked_deleted == 75


async def test_invalid_limit_is_refused(maintenance: Maintenance) -> None:
    """The Temporal UI starts a run with any input."""
    run = await maintenance.start("StalePrefixCleanup", {"revoked_day": 3, "allocated_hours": -1})
    with pytest.raises(WorkflowFailureError) as failure:
        await run.result()
    assert "revoked_day" in str(failure.value.cause)
    assert "allocated_hours" in str(failure.value.cause)
