"""Orders that suspend a line and resume it, and what other orders do with a suspended line."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError
from pyrad.packet import CoARequest, DisconnectRequest
from temporalio.client import WorkflowFailureError

from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile, OrderRefusedError
from lastmile.contract import AnyOrder, ResultStatus, ResumptionResult, SuspendSubscriber
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas
from tests.support.faults import Faults, Gate, alone, refused
from tests.support.maintenance import Maintenance
from tests.support.orders import Orders, log_in, outcomes, what_is_there
from tests.workflows.test_takeover import lost

AN_HOUR = timedelta(hours=1)


async def findings(database: Database) -> list[str]:
    return [f"{found.invariant.name}: {found.words}" async for found in check(database, "acme")]


async def resume_due(maintenance: Maintenance) -> ResumptionResult:
    run = await maintenance.start("Resumption", returns=ResumptionResult)
    result: ResumptionResult = await run.result()
    return result


async def suspended(lastmile: Lastmile, orders: Orders, **changes: Any) -> None:
    await lastmile.execute(orders.provision())
    assert (await lastmile.execute(orders.suspend(**changes))).status is ResultStatus.COMPLETED


async def past_its_end(owner: asyncpg.Connection, by: timedelta = timedelta(minutes=1)) -> None:
    """Let the suspension reach its end, which was ahead when the order was sent."""
    await owner.execute("UPDATE suspensions SET resume_at = now() - $1::interval", by)


@pytest.mark.parametrize("mode", ["block", "walled_garden", "slow"])
async def test_suspend_changes_billing_addresses_and_radius_group(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, mode: str
) -> None:
    until = datetime.now(UTC) + AN_HOUR
    await suspended(lastmile, orders, mode=mode, until=until)

    row = await owner.fetchrow("SELECT mode, reason, resume_at, created_by_order, ended_at FROM suspensions")
    assert tuple(row) == (mode, "non-payment", until, "O-3", None)
    assert await owner.fetchval("SELECT state FROM delegations") == "suspended"
    assert await owner.fetchval("SELECT count(*) FROM radreply") == 1
    assert (await owner.fetchval("SELECT groupname FROM radusergroup")).partition("@")[0].endswith(f":{mode}")
    service = await owner.fetchrow("SELECT status, suspended_by_order FROM billing_services")
    assert tuple(service) == ("suspended", "O-3")
    events = await owner.fetch("SELECT event, mode FROM billing_events ORDER BY id")
    assert [tuple(event) for event in events] == [("started", None), ("suspended", mode)]
    assert await owner.fetchval("SELECT in_service FROM devices WHERE kind = 'onu'")
    assert await findings(database) == []


async def test_suspend_then_resume_leaves_the_line_as_before(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    await lastmile.execute(orders.suspend())

    result = await lastmile.execute(orders.resume())

    assert (result.status, set(outcomes(result).values())) == (ResultStatus.COMPLETED, {"done"})
    assert await what_is_there(owner) == before
    row = await owner.fetchrow("SELECT ended_by_order, ended_at IS NOT NULL FROM suspensions")
    assert tuple(row) == ("O-4", True)
    states = await owner.fetch("SELECT to_state FROM delegation_events ORDER BY id")
    assert [row["to_state"] for row in states][-2:] == ["suspended", "active"]
    assert await findings(database) == []


async def test_suspend_of_a_suspended_line_says_what_to_order_first(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await suspended(lastmile, orders)
    before = await what_is_there(owner)

    result = await lastmile.execute(orders.suspend("O-5", mode="block"))

    assert result.reason == (
        f"verify_line: The line of subscriber {orders.ref} is suspended. "
        "Resume the line first, then suspend it in the other mode."
    )
    assert await what_is_there(owner) == before


async def test_resume_of_a_line_in_service_is_refused(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)

    result = await lastmile.execute(orders.resume())

    assert (result.status, result.reason) == (
        ResultStatus.ROLLED_BACK,
        f"verify_line: The line of subscriber {orders.ref} is in service. There is nothing to resume.",
    )
    assert await what_is_there(owner) == before


async def test_provision_of_a_suspended_line_is_refused(lastmile: Lastmile, orders: Orders) -> None:
    await suspended(lastmile, orders)
    with pytest.raises(OrderRefusedError, match=r"is suspended\. Resume the line first\."):
        await lastmile.execute(orders.provision("O-5"))


async def test_provision_of_a_suspended_line_after_a_lost_deprovision_is_refused(
    lastmile: Lastmile, orders: Orders, faults: Faults
) -> None:
    await suspended(lastmile, orders)
    await lost(lastmile, orders.deprovision(), faults, "delete_network_profile")
    with pytest.raises(OrderRefusedError, match="is suspended"):
        await lastmile.execute(orders.provision("O-5"))


async def test_same_suspend_order_twice_gives_the_same_result(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    first = await lastmile.execute(orders.suspend())
    assert await lastmile.execute(orders.suspend()) == first
    assert await owner.fetchval("SELECT count(*) FROM suspensions") == 1


@pytest.mark.parametrize("order", ["suspend", "resume"])
async def test_cancel_before_the_sessions_are_told_restores_the_line(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, order: str
) -> None:
    await (lastmile.execute(orders.provision()) if order == "suspend" else suspended(lastmile, orders))
    before = await what_is_there(owner)
    gate = faults.before["O-5", f"{order}_radius_account"] = Gate()
    run = await lastmile.start(orders.of(order, "O-5"))
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()

    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before


async def test_slow_mode_changes_a_session_by_coa_where_the_nas_takes_it(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await owner.execute("UPDATE nas SET type = 'wispr'")
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    for order in (orders.suspend(mode="slow"), orders.resume()):
        result = await lastmile.execute(order)
        assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
        assert (await nas.next_request()).code == CoARequest
    assert "4F0C-01" in nas.sessions


@pytest.mark.parametrize("order", ["suspend", "resume"])
async def test_next_order_undoes_what_a_lost_run_has_changed(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults, order: str
) -> None:
    await (lastmile.execute(orders.provision()) if order == "suspend" else suspended(lastmile, orders))
    before = await what_is_there(owner)
    await lost(lastmile, orders.of(order, "O-5"), faults, "close_order")
    faults.after["O-6", f"{order}_billing_service"] = refused

    assert (await lastmile.execute(orders.of(order, "O-6"))).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before


@pytest.mark.parametrize(("first", "opposite"), [("suspend", "resume"), ("resume", "suspend")])
async def test_opposite_of_a_lost_order_settles_what_the_lost_order_kept(
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    database: Database,
    faults: Faults,
    first: str,
    opposite: str,
) -> None:
    await (lastmile.execute(orders.provision()) if first == "suspend" else suspended(lastmile, orders))
    await lost(lastmile, orders.of(first, "O-5"), faults, "close_order")

    assert (await lastmile.execute(orders.of(opposite, "O-6"))).status is ResultStatus.COMPLETED
    assert await owner.fetchval("SELECT count(*) FROM previous_values") == 0
    assert not [words for words in await findings(database) if words.startswith("half_changed")]


async def test_block_after_a_lost_slow_mode_ends_the_session(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    await owner.execute("UPDATE nas SET type = 'wispr'")
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    await lost(lastmile, orders.suspend(mode="slow"), faults, "close_order")

    result = await lastmile.execute(orders.suspend("O-5", mode="block"))

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert [(await nas.next_request()).code for _ in range(2)] == [CoARequest, DisconnectRequest]


async def test_suspend_with_a_silent_nas_is_degraded(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: None

    result = await lastmile.execute(orders.suspend(mode="block"))

    assert result.status is ResultStatus.DEGRADED
    assert "did not answer the Disconnect-Request for session 4F0C-01" in result.warnings[0]
    assert await owner.fetchval("SELECT status FROM billing_services") == "suspended"


async def test_rolled_back_block_leaves_a_surviving_session_alone(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    """A session that its NAS has not ended is what the line had before: the undo does not end it."""
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: None
    faults.before["suspend_billing_service"] = refused

    result = await lastmile.execute(orders.suspend(mode="block"))

    assert result.status is ResultStatus.ROLLED_BACK
    requests = [(await nas.next_request()).code for _ in range(2)]
    assert requests == [DisconnectRequest, DisconnectRequest]  # both of the step: sent twice
    assert "4F0C-01" in nas.sessions
    assert not [warning for warning in result.warnings if warning.startswith("undo of ")]


async def test_rolled_back_walled_garden_tells_the_session(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    """The CPE has logged in to the walled garden meanwhile."""
    await lastmile.execute(orders.provision())
    gate = faults.after["O-3", "suspend_radius_account"] = Gate()
    faults.before["O-3", "suspend_billing_service"] = refused
    run = await lastmile.start(orders.suspend())
    await gate.reached.wait()
    await log_in(owner, orders, "4F0C-02", nas)
    gate.open()

    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert (await nas.next_request()).session == "4F0C-02"


async def test_deprovision_of_a_suspended_line_ends_the_suspension(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    await suspended(lastmile, orders, mode="block")

    result = await lastmile.execute(orders.deprovision())

    assert (result.status, outcomes(result)["suspend_billing_service"]) == (ResultStatus.COMPLETED, "skipped")
    assert await owner.fetchval("SELECT ended_by_order FROM suspensions") == "O-9"
    assert await owner.fetchval("SELECT count(*) FROM radcheck") == 0
    assert await owner.fetchval("SELECT status FROM billing_services") == "ended"
    assert await findings(database) == []
    assert (await lastmile.execute(orders.provision("O-10"))).status is ResultStatus.COMPLETED


async def test_rolled_back_deprovision_leaves_the_line_suspended(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await suspended(lastmile, orders)
    before = await what_is_there(owner)
    faults.before["unconfigure_cpe"] = refused

    assert (await lastmile.execute(orders.deprovision())).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before


async def test_resume_of_another_suspension_than_the_named_one_is_refused(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await suspended(lastmile, orders)

    result = await lastmile.execute(orders.resume(suspended_by="O-2"))

    assert result.reason == (
        f"end_suspension: The line of subscriber {orders.ref} was suspended by order O-3, not by O-2: "
        "it stays suspended."
    )
    assert await owner.fetchval("SELECT ended_at FROM suspensions") is None


async def test_suspension_past_its_end_is_resumed_by_the_schedule(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, maintenance: Maintenance
) -> None:
    await suspended(lastmile, orders, until=datetime.now(UTC) + AN_HOUR)
    assert await resume_due(maintenance) == ResumptionResult(started=0, busy=0)
    await past_its_end(owner)

    assert await resume_due(maintenance) == ResumptionResult(started=1, busy=0)

    await lastmile.client.get_workflow_handle(orders.resume().workflow_id).result()
    row = await owner.fetchrow(
        "SELECT ended_by_order, requested_by FROM suspensions JOIN orders ON order_id = ended_by_order"
    )
    assert tuple(row) == (f"until-{await owner.fetchval('SELECT id FROM suspensions')}-1", "until of order O-3")
    assert await resume_due(maintenance) == ResumptionResult(started=0, busy=0)


async def test_due_line_with_a_running_order_is_left_to_the_next_run(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, maintenance: Maintenance, faults: Faults
) -> None:
    await suspended(lastmile, orders, until=datetime.now(UTC) + AN_HOUR)
    await past_its_end(owner)
    gate = Gate()
    faults.before["O-9", "deactivate_onu"] = alone(gate)
    run = await lastmile.start(orders.deprovision())
    await gate.reached.wait()

    assert await resume_due(maintenance) == ResumptionResult(started=0, busy=1)

    gate.open()
    assert (await run.result()).status is ResultStatus.COMPLETED
    assert await resume_due(maintenance) == ResumptionResult(started=0, busy=0)


async def test_failed_resumption_is_repeated_after_a_pause(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, maintenance: Maintenance, faults: Faults
) -> None:
    await suspended(lastmile, orders, until=datetime.now(UTC) + AN_HOUR)
    await past_its_end(owner)
    faults.before["resume_radius_account"] = refused
    assert (await resume_due(maintenance)).started == 1
    with pytest.raises(WorkflowFailureError):
        await lastmile.client.get_workflow_handle(orders.resume().workflow_id).result()
    faults.before.clear()
    assert (await resume_due(maintenance)).started == 0

    await owner.execute("UPDATE orders SET created_at = created_at - interval '11 minutes' WHERE operation = 'resume'")
    await owner.execute("UPDATE suspensions SET created_at = created_at - interval '1 day'")

    assert (await resume_due(maintenance)).started == 1
    await lastmile.client.get_workflow_handle(orders.resume().workflow_id).result()
    assert (await owner.fetchval("SELECT ended_by_order FROM suspensions")).endswith("-2")


async def test_suspension_an_hour_past_its_end_is_a_finding(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    await suspended(lastmile, orders, until=datetime.now(UTC) + AN_HOUR)
    await past_its_end(owner)
    assert await findings(database) == []
    await past_its_end(owner, timedelta(hours=2))
    (finding,) = await findings(database)
    assert finding.startswith("overdue_suspension: was to resume on ")


def test_suspension_that_ends_before_it_begins_is_refused(orders: Orders) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    with pytest.raises(ValidationError, match="until must be later than not_before"):
        orders.suspend(until=moment, not_before=moment)


async def test_suspension_that_has_ended_already_is_refused(lastmile: Lastmile, orders: Orders) -> None:
    await lastmile.execute(orders.provision())
    result = await lastmile.execute(orders.suspend(until=datetime.now(UTC) - AN_HOUR))
    assert (result.status, "has passed. Give a later time" in result.reason) == (ResultStatus.ROLLED_BACK, True)


def test_digest_of_an_order_depends_on_its_mode(orders: Orders) -> None:
    made: list[AnyOrder] = [orders.suspend(mode=mode) for mode in ("slow", "SLOW", "block")]
    assert [isinstance(order, SuspendSubscriber) for order in made] == [True] * 3
    assert made[0].digest == made[1].digest != made[2].digest
