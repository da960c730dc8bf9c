"""A step or an undo that keeps failing parks the run until an operator decides."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from temporalio.client import WorkflowUpdateFailedError

from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile, NotRunningError, OrderRun
from lastmile.contract import Choice, Decision, ResultStatus, RunStatus
from lastmile.db import Database
from tests.support.faults import Faults, alone, broken, refused
from tests.support.orders import Orders, outcomes, parked, what_is_there
from workflows.search_attributes import ATTENTION, OPERATION, STEP, TENANT

WORD = Decision(by="noc-7", why="ticket 4711")


async def parked_undo(lastmile: Lastmile, orders: Orders, faults: Faults) -> OrderRun:
    """Return a parked provision that failed at its last step and cannot release its prefix."""
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    run = await lastmile.start(orders.provision())
    await parked(run)
    return run


async def parked_forward(lastmile: Lastmile, orders: Orders, faults: Faults) -> OrderRun:
    """Return a parked deprovision that is past its pivot and cannot release the prefix."""
    await lastmile.execute(orders.provision())
    faults.before["release_ip_address"] = refused
    run = await lastmile.start(orders.deprovision())
    await parked(run)
    return run


async def test_parked_run_shows_its_step_and_reason(lastmile: Lastmile, orders: Orders, faults: Faults) -> None:
    before = datetime.now(UTC)
    run = await parked_undo(lastmile, orders, faults)

    progress = await parked(run)
    assert (progress.step, progress.attention) == (
        "allocate_ip_address",
        "undo of allocate_ip_address failed: refused by the test",
    )
    assert outcomes(progress)["allocate_ip_address"] == "undo_failed"
    assert progress.parked is not None
    assert (progress.parked.undo, progress.parked.attempts) == (True, 1)
    assert before < progress.parked.since < datetime.now(UTC)
    description = await run.handle.describe()
    found = description.typed_search_attributes
    assert [found.get(key) for key in (TENANT, OPERATION, STEP, ATTENTION)] == [
        "acme",
        "provision",
        "allocate_ip_address",
        True,
    ]
    assert await description.static_summary() == f"provision {orders.ref}, order O-1"
    details = (await run.handle.query("__temporal_workflow_metadata")).current_details
    assert "undo of allocate_ip_address failed: refused by the test" in details
    assert f"Parked since {progress.parked.since:%Y-%m-%d %H:%M:%S} UTC. It was tried once." in details
    assert "| allocate_ip_address | ❌ undo failed |" in details
    assert "| create_billing_service | ❌ failed | 1 |" in details
    await run.handle.terminate()


async def test_completed_run_needs_no_attention(lastmile: Lastmile, orders: Orders) -> None:
    run = await lastmile.start(orders.provision())
    await run.result()

    assert (await run.handle.describe()).typed_search_attributes.get(ATTENTION) is None
    details = (await run.handle.query("__temporal_workflow_metadata")).current_details
    assert details.startswith("**provision O-1**: completed")


async def test_retry_step_after_the_cause_is_removed_rolls_back(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    nothing = await what_is_there(owner)
    run = await parked_undo(lastmile, orders, faults)
    del faults.before["release_ip_address"]

    answer = await lastmile.decide("acme", orders.ref, "retry_step", WORD)
    result = await run.result()

    assert answer == "retry_step of allocate_ip_address by noc-7"
    assert (result.status, result.warnings) == (ResultStatus.ROLLED_BACK, [])
    assert outcomes(result)["allocate_ip_address"] == "undone"
    assert await what_is_there(owner) == nothing
    assert (await run.handle.describe()).typed_search_attributes.get(ATTENTION) is False


async def test_retry_step_with_the_cause_present_parks_again(
    lastmile: Lastmile, orders: Orders, faults: Faults
) -> None:
    run = await parked_undo(lastmile, orders, faults)

    first = (await parked(run)).parked
    await lastmile.decide("acme", orders.ref, "retry_step", WORD)
    again = (await parked(run)).parked
    assert first is not None
    assert again == first.model_copy(update={"attempts": 2})

    del faults.before["release_ip_address"]
    await lastmile.decide("acme", orders.ref, "retry_step", WORD)
    assert (await run.result()).status is ResultStatus.ROLLED_BACK


async def test_skip_step_continues_and_is_recorded(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    run = await parked_undo(lastmile, orders, faults)

    await lastmile.decide("acme", orders.ref, "skip_step", WORD)
    result = await run.result()

    word = "undo of allocate_ip_address: skip_step by noc-7: ticket 4711"
    assert (result.status, result.warnings) == (ResultStatus.PARTLY_ROLLED_BACK, [word])
    assert result.reason == f"create_billing_service: refused by the test; {word}"
    assert outcomes(result)["allocate_ip_address"] == "undo_failed"
    (decision,) = result.decisions
    assert (decision.choice, decision.step, decision.undo, decision.by, decision.why) == (
        Choice.SKIP,
        "allocate_ip_address",
        True,
        "noc-7",
        "ticket 4711",
    )
    assert result.created.model_dump(exclude_none=True).keys() == {"ipv6_prefix"}
    assert await owner.fetchval("SELECT status FROM orders") == "partly_rolled_back"
    assert await lastmile.execute(orders.provision()) == result
    there = await what_is_there(owner)
    assert len(there.pop("held delegations")) == len(there.pop("taken slots")) == 1
    assert not any(there.values())


async def test_abandon_changes_nothing(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    run = await parked_undo(lastmile, orders, faults)
    before = await what_is_there(owner)

    await lastmile.decide("acme", orders.ref, "abandon", WORD)
    result = await run.result()

    assert result.status is ResultStatus.ABANDONED
    assert "create_billing_service: refused by the test" in result.reason
    assert "abandon by noc-7: ticket 4711" in result.reason
    assert result.created.ipv6_prefix is not None
    assert await what_is_there(owner) == before
    assert await owner.fetchval("SELECT status FROM orders") == "abandoned"


async def test_abandon_names_only_what_was_not_undone(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    faults.before["create_billing_service"] = faults.before["delete_network_profile"] = refused
    run = await lastmile.start(orders.provision())
    await parked(run)

    await lastmile.decide("acme", orders.ref, "abandon", WORD)
    created = (await run.result()).created

    left = {name for name, value in created if value is not None}
    assert left == {"customer_id", "subscriber_id", "network_profile_id"}
    assert await owner.fetchval("SELECT count(*) FROM radcheck") == 0


async def test_undo_without_retries_left_parks(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    nothing = await what_is_there(owner)
    faults.before["configure_cpe"] = refused
    faults.before["deactivate_onu"] = broken
    run = await lastmile.start(orders.provision())
    progress = await parked(run)
    assert progress.attention == "undo of activate_onu failed: broken by the test"
    assert progress.parked is not None
    assert progress.parked.attempts == 11  # once as a local activity

    faults.before.clear()
    await lastmile.decide("acme", orders.ref, "retry_step", WORD)

    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == nothing


async def test_cancelled_parked_run_accepts_a_decision(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    nothing = await what_is_there(owner)
    run = await parked_undo(lastmile, orders, faults)
    await run.handle.cancel()
    assert (await parked(run)).step == "allocate_ip_address"

    faults.before.clear()
    await lastmile.decide("acme", orders.ref, "retry_step", WORD)

    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == nothing


@pytest.mark.parametrize("step", ["revoke_ipv6_lifecycle", "release_ip_address", "archive_subscriber"])
async def test_failure_after_the_pivot_parks_without_a_rollback(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, step: str
) -> None:
    await lastmile.execute(orders.provision())
    faults.before[step] = refused
    run = await lastmile.start(orders.deprovision())
    progress = await parked(run)
    assert progress.step == step
    assert await owner.fetchval("SELECT status FROM billing_services") == "suspended"

    faults.before.clear()
    await lastmile.decide("acme", orders.ref, "retry_step", WORD)

    result = await run.result()
    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert await owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL") == 0


async def test_skip_step_after_the_pivot_degrades_the_order(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    run = await parked_forward(lastmile, orders, faults)

    await lastmile.decide("acme", orders.ref, "skip_step", WORD)
    result = await run.result()

    assert result.status is ResultStatus.DEGRADED
    assert result.warnings == ["release_ip_address: skip_step by noc-7: ticket 4711"]
    assert outcomes(result)["release_ip_address"] == "failed"
    assert outcomes(result)["archive_subscriber"] == "done"
    assert await owner.fetchval("SELECT state FROM delegations WHERE released_at IS NULL") == "revoked"


async def test_abandon_after_the_pivot_abandons_the_order(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    run = await parked_forward(lastmile, orders, faults)

    await lastmile.decide("acme", orders.ref, "abandon", WORD)
    result = await run.result()

    assert result.status is ResultStatus.ABANDONED
    assert result.reason == "release_ip_address: abandon by noc-7: ticket 4711"
    assert outcomes(result)["delete_radius_account"] is None
    assert await owner.fetchval("SELECT count(*) FROM radcheck") > 0


async def test_result_that_cannot_be_recorded_parks(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    """The run does not end before the order's row has the result."""
    faults.before["close_order"] = faults.before["configure_cpe"] = refused
    run = await lastmile.start(orders.provision())
    assert (await parked(run)).attention == "close_order failed: refused by the test"

    faults.before.clear()
    await lastmile.decide("acme", orders.ref, "retry_step", WORD)

    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert await owner.fetchval("SELECT status FROM orders") == "rolled_back"


async def test_decision_for_no_run_or_another_step_is_refused(
    lastmile: Lastmile, orders: Orders, faults: Faults
) -> None:
    with pytest.raises(NotRunningError, match=r"No order of subscriber .* is running"):
        await lastmile.decide("acme", orders.ref, "skip_step", WORD)

    run = await parked_undo(lastmile, orders, faults)
    with pytest.raises(NotRunningError, match="The parked step is allocate_ip_address, not activate_onu"):
        await lastmile.decide("acme", orders.ref, "skip_step", WORD.model_copy(update={"step": "activate_onu"}))
    assert (await parked(run)).status is RunStatus.PARKED
    await run.handle.terminate()


async def test_decision_for_a_run_that_is_not_parked_is_refused(
    lastmile: Lastmile, orders: Orders, faults: Faults
) -> None:
    async def meddle() -> None:
        with pytest.raises(NotRunningError, match="No step is parked"):
            await lastmile.decide("acme", orders.ref, "abandon", WORD)

    faults.before["create_billing_service"] = alone(meddle)

    assert (await lastmile.execute(orders.provision())).status is ResultStatus.COMPLETED


@pytest.mark.parametrize(
    "decision",
    [{"by": "", "why": "x"}, {"by": "x", "why": ""}, {"by": "x"}, {}, "yes", {"by": "x", "why": "y", "z": 1}],
)
async def test_decision_without_a_name_or_a_reason_is_refused(
    lastmile: Lastmile, orders: Orders, faults: Faults, decision: Any
) -> None:
    """An operator can type any input into the Temporal UI. A refused decision leaves the run parked."""
    run = await parked_undo(lastmile, orders, faults)

    with pytest.raises(WorkflowUpdateFailedError):
        await run.handle.execute_update("abandon", decision)

    assert (await parked(run)).status is RunStatus.PARKED
    await run.handle.terminate()


async def test_a_deprovision_after_a_skipped_release_releases_the_prefix(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, faults: Faults
) -> None:
    """The subscriber is archived, and still holds its prefix: the audit says so, and what helps."""
    run = await parked_forward(lastmile, orders, faults)
    await lastmile.decide("acme", orders.ref, "skip_step", WORD)
    await run.result()
    faults.before.clear()
    assert {found.invariant.name async for found in check(database)} == {"not_terminated", "not_released"}

    result = await lastmile.execute(orders.deprovision("O-10"))

    assert result.status is ResultStatus.COMPLETED
    assert result.created.ipv6_prefix is not None
    assert outcomes(result)["release_ip_address"] == "done"
    assert await owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL") == 0
    assert [found async for found in check(database)] == []
    again = await lastmile.execute(orders.deprovision("O-11"))
    assert (again.status, again.reason.partition(" on ")[0]) == (
        ResultStatus.ROLLED_BACK,
        f"verify_subscriber: Subscriber {orders.ref} was deprovisioned",
    )
