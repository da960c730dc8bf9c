"""Orders whose ONU or CPE has yet to follow: the order says so, and claims nothing that is not so."""

import asyncio

import asyncpg
import pytest

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.lines import Line
from lastmile.db import Database
from lastmile.devices.controllers import LineDevice
from lastmile.devices.errors import ControllerRefusedError, ControllerUnavailableError, DeviceNotSeenError
from lastmile.devices.records import DeviceKind, set_target_state
from lastmile.devices.routing import Controllers, Route, Router
from lastmile.devices.scopes import Scope
from lastmile.services.device_reconciler import DeviceReconciler
from tests.support.controllers import RecordingController, answered
from tests.support.faults import Faults, Gate, refused
from tests.support.orders import Orders, outcomes

ONU, CPE = "ACME00000000", "00:1a:2b:00:00:00"
OFFLINE = "the CPE is offline"
NOT_SEEN = "the OLT has not seen the ONU"


async def states(owner: asyncpg.Connection) -> dict[str, tuple[bool, bool]]:
    """Return of each device whether it should be in service, and whether that is confirmed."""
    rows = await owner.fetch("SELECT identity, in_service, confirmed FROM devices")
    return {row["identity"]: (row["in_service"], row["confirmed"]) for row in rows}


async def pending(owner: asyncpg.Connection) -> dict[str, tuple[bool, str]]:
    """Return of each pending call whether it switches the device on, and what the device waits for."""
    rows = await owner.fetch("SELECT identity, switches_on, waits_for FROM pending_device_calls")
    return {row["identity"]: (row["switches_on"], row["waits_for"]) for row in rows}


@pytest.fixture
def reconciler(database: Database, olt: RecordingController, acs: RecordingController) -> DeviceReconciler:
    return DeviceReconciler(database, Controllers.everywhere(olt, acs).by_kind)


async def sweep(owner: asyncpg.Connection, reconciler: DeviceReconciler) -> None:
    """Repeat every pending call now."""
    await owner.execute("UPDATE pending_device_calls SET due_at = now()")
    await reconciler.sweep()


async def test_provision_with_an_offline_cpe_is_degraded(
    controlled: Lastmile, orders: Orders, acs: RecordingController, owner: asyncpg.Connection
) -> None:
    acs.waiting[CPE] = OFFLINE

    result = await controlled.execute(orders.provision())

    assert (result.status, result.warnings) == (ResultStatus.DEGRADED, [f"configure_cpe: {CPE}: {OFFLINE}"])
    assert outcomes(result)["activate_onu"] == "done"
    assert await states(owner) == {ONU: (True, True), CPE: (True, False)}
    assert await pending(owner) == {CPE: (True, OFFLINE)}


async def test_provision_before_the_onu_was_seen_is_degraded(
    controlled: Lastmile,
    orders: Orders,
    olt: RecordingController,
    owner: asyncpg.Connection,
) -> None:
    olt.failing[ONU] = DeviceNotSeenError(NOT_SEEN)
    result = await controlled.execute(orders.provision())
    assert (result.status, result.warnings) == (ResultStatus.DEGRADED, [f"activate_onu: {ONU}: {NOT_SEEN}"])
    assert (await states(owner))[ONU] == (True, False)
    assert await pending(owner) == {ONU: (True, NOT_SEEN)}


async def test_provision_that_the_controller_refuses_is_rolled_back(
    controlled: Lastmile, orders: Orders, olt: RecordingController, owner: asyncpg.Connection
) -> None:
    olt.failing[ONU] = ControllerRefusedError("olt-1 has no profile 'fast'")
    result = await controlled.execute(orders.provision())
    assert (result.status, result.reason) == (
        ResultStatus.ROLLED_BACK,
        "activate_onu: olt-1 has no profile 'fast'",
    )
    assert await states(owner) == {}


async def test_rollback_with_an_offline_cpe_says_so_and_keeps_the_call(
    controlled: Lastmile, orders: Orders, acs: RecordingController, owner: asyncpg.Connection, faults: Faults
) -> None:
    async def goes_offline() -> None:
        acs.waiting[CPE] = OFFLINE
        await refused()

    faults.before["create_billing_service"] = goes_offline
    result = await controlled.execute(orders.provision())
    assert result.status is ResultStatus.ROLLED_BACK
    (step,) = [step for step in result.steps if step.step == "configure_cpe"]
    assert (step.outcome, step.reason) == ("undone", f"{CPE}: {OFFLINE}")
    assert await states(owner) == {}
    assert await pending(owner) == {CPE: (False, OFFLINE)}


async def test_deprovision_with_an_offline_cpe_keeps_the_record_of_what_waits(
    controlled: Lastmile, orders: Orders, acs: RecordingController, owner: asyncpg.Connection
) -> None:
    await controlled.execute(orders.provision())
    acs.waiting[CPE] = OFFLINE
    result = await controlled.execute(orders.deprovision())
    assert (result.status, result.warnings) == (ResultStatus.DEGRADED, [f"unconfigure_cpe: {CPE}: {OFFLINE}"])
    assert (await states(owner))[CPE] == (False, False)
    assert await pending(owner) == {CPE: (False, OFFLINE)}


async def test_replaced_device_and_its_successor_both_say_what_they_wait_for(
    controlled: Lastmile, orders: Orders, olt: RecordingController, owner: asyncpg.Connection
) -> None:
    await controlled.execute(orders.provision())
    new = "ACME0000FFFF"
    olt.waiting = {ONU: "the ONU is being removed", new: NOT_SEEN}
    result = await controlled.execute(orders.replace_device())
    assert (result.status, result.warnings) == (
        ResultStatus.DEGRADED,
        [f"change_onu: {ONU}: the ONU is being removed; {new}: {NOT_SEEN}"],
    )
    assert (await states(owner))[new] == (True, False)
    assert await pending(owner) == {ONU: (False, "the ONU is being removed"), new: (True, NOT_SEEN)}


async def test_device_that_comes_back_is_brought_to_the_state_and_confirmed(
    controlled: Lastmile,
    orders: Orders,
    acs: RecordingController,
    owner: asyncpg.Connection,
    reconciler: DeviceReconciler,
) -> None:
    acs.waiting[CPE] = OFFLINE
    await controlled.execute(orders.provision())
    await reconciler.sweep()
    assert len(acs.told) == 1, "the call is not due yet"

    await sweep(owner, reconciler)
    assert await pending(owner) == {CPE: (True, OFFLINE)}
    del acs.waiting[CPE]
    await sweep(owner, reconciler)
    assert (await states(owner), await pending(owner)) == ({ONU: (True, True), CPE: (True, True)}, {})
    noted = (
        "SELECT actor, order_id, after ->> 'confirmed' FROM audit_log WHERE record = 'devices' ORDER BY id DESC LIMIT 1"
    )
    assert tuple(await owner.fetchrow(noted)) == ("device reconciler", "O-1", "true")


async def test_controller_that_fails_is_asked_again_and_the_failure_is_shown(
    controlled: Lastmile,
    orders: Orders,
    acs: RecordingController,
    owner: asyncpg.Connection,
    reconciler: DeviceReconciler,
) -> None:
    acs.waiting[CPE] = OFFLINE
    await controlled.execute(orders.provision())
    for failure in (ControllerUnavailableError("the ACS does not answer"), ControllerRefusedError("fault 9007")):
        acs.failing[CPE] = failure
        await sweep(owner, reconciler)
        row = await owner.fetchrow("SELECT waits_for, error, due_at > now() FROM pending_device_calls")
        assert tuple(row) == (OFFLINE, str(failure), True)
    acs.failing.clear()
    acs.waiting.clear()
    await sweep(owner, reconciler)
    assert await pending(owner) == {}


async def test_repetition_that_ends_during_a_call_of_an_order_keeps_that_call(
    controlled: Lastmile,
    orders: Orders,
    acs: RecordingController,
    owner: asyncpg.Connection,
    reconciler: DeviceReconciler,
) -> None:
    acs.waiting[CPE] = OFFLINE
    await controlled.execute(orders.provision())
    acs.waiting.clear()
    repetition, order = Gate(), Gate()
    acs.before, acs.before_off = repetition, order
    await owner.execute("UPDATE pending_device_calls SET due_at = now()")
    repeating = asyncio.create_task(reconciler.sweep())
    await repetition.reached.wait()
    ending = asyncio.create_task(controlled.execute(orders.deprovision()))
    await order.reached.wait()
    repetition.open()
    await repeating
    order.open()
    assert (await ending).status is ResultStatus.COMPLETED
    assert await pending(owner) == {CPE: (False, "")}, "which of both calls reached the CPE last is not known"
    await sweep(owner, reconciler)
    assert (CPE in acs.on, await pending(owner)) == (False, {})


async def test_line_that_ends_without_its_controller_is_not_put_into_service_later(
    controlled: Lastmile,
    database: Database,
    orders: Orders,
    acs: RecordingController,
    owner: asyncpg.Connection,
    reconciler: DeviceReconciler,
) -> None:
    acs.waiting[CPE] = OFFLINE
    await controlled.execute(orders.provision())
    async with database.tenant("acme") as connection:  # the step of a deprovision while the controller is removed
        await set_target_state(connection, "acme", "O-2", orders.ref, DeviceKind.CPE, CPE, False)
    acs.waiting.clear()
    await sweep(owner, reconciler)
    assert [what for what, _ in acs.told] == ["on", "off"]
    assert (await states(owner))[CPE] == (False, True)


async def test_device_that_another_line_has_meanwhile_is_taken_out_of_service_as_shared(
    controlled: Lastmile,
    orders: Orders,
    olt: RecordingController,
    owner: asyncpg.Connection,
    database: Database,
    reconciler: DeviceReconciler,
) -> None:
    await controlled.execute(orders.provision())
    olt.waiting[ONU] = "VOLTHA has not removed the flows"
    await controlled.execute(orders.deprovision())
    async with database.tenant("acme") as connection:
        await set_target_state(connection, "acme", "O-9", "another", DeviceKind.ONU, ONU, True)
    await sweep(owner, reconciler)
    assert [(what, device.shared) for what, device in olt.told[-2:]] == [("off", False), ("off", True)]


async def test_failing_controller_delays_no_call_to_another(
    controlled: Lastmile,
    orders: Orders,
    olt: RecordingController,
    acs: RecordingController,
    owner: asyncpg.Connection,
    reconciler: DeviceReconciler,
) -> None:
    acs.waiting[CPE], olt.waiting[ONU] = OFFLINE, NOT_SEEN
    await controlled.execute(orders.provision())
    olt.waiting.clear()
    acs.failing[CPE] = RuntimeError("a fault of the driver")
    await sweep(owner, reconciler)
    assert await states(owner) == {ONU: (True, True), CPE: (True, False)}
    row = await owner.fetchrow("SELECT identity, error, claimed_until, due_at > now() FROM pending_device_calls")
    assert tuple(row) == (CPE, "the call failed: the log of the workers says why", None, True)


async def test_order_during_a_repeated_call_is_repeated_after_it(
    controlled: Lastmile,
    orders: Orders,
    acs: RecordingController,
    owner: asyncpg.Connection,
    reconciler: DeviceReconciler,
) -> None:
    """The reconciler's call may reach the device after that of the order, and put it into service again."""
    acs.waiting[CPE] = OFFLINE
    await controlled.execute(orders.provision())
    acs.waiting.clear()
    gate = Gate()
    acs.before = gate
    await owner.execute("UPDATE pending_device_calls SET due_at = now()")
    repeating = asyncio.create_task(reconciler.sweep())
    await gate.reached.wait()
    acs.before = None
    result = await controlled.execute(orders.deprovision())
    assert result.status is ResultStatus.COMPLETED
    gate.open()
    await repeating
    assert CPE in acs.on, "the repeated call was the last one"
    assert await pending(owner) == {CPE: (False, "")}
    await sweep(owner, reconciler)
    assert (CPE in acs.on, await pending(owner)) == (False, {})
    assert (await states(owner))[CPE] == (False, True)


async def test_waiting_cpe_that_gets_a_mac_address_has_one_pending_call(
    controlled: Lastmile,
    orders: Orders,
    acs: RecordingController,
    owner: asyncpg.Connection,
    reconciler: DeviceReconciler,
) -> None:
    """A call under the former identity would put the CPE into service again after its line has ended."""
    cpe = {"cpe_oui": "00D09E", "cpe_serial": "CPE000001"}
    acs.waiting = dict.fromkeys(("00D09E-CPE000001", CPE), OFFLINE)
    await controlled.execute(orders.provision(line=Line(connection_type="ftth", **cpe)))
    assert await pending(owner) == {"00D09E-CPE000001": (True, OFFLINE)}

    await controlled.execute(orders.replace_device(cpe_mac=CPE, **cpe))
    assert await pending(owner) == {CPE: (True, OFFLINE)}

    await controlled.execute(orders.deprovision())
    assert await pending(owner) == {CPE: (False, OFFLINE)}
    acs.waiting.clear()
    await sweep(owner, reconciler)
    assert (await pending(owner), acs.on) == ({}, {})


async def test_waiting_onu_comes_up_with_the_speed_profile_of_a_later_plan(
    controlled: Lastmile,
    orders: Orders,
    olt: RecordingController,
    owner: asyncpg.Connection,
    faults: Faults,
    reconciler: DeviceReconciler,
) -> None:
    olt.waiting[ONU] = NOT_SEEN
    line = Line(connection_type="ftth", onu_serial=ONU, speed_profile="500M")
    await controlled.execute(orders.provision(line=line))
    await controlled.execute(orders.change_plan(speed_profile="1G"))
    faults.before["O-3", "change_billing_plan"] = refused
    await controlled.execute(orders.change_plan("O-3", speed_profile="2G"))
    assert await pending(owner) == {ONU: (True, NOT_SEEN)}

    olt.waiting.clear()
    await sweep(owner, reconciler)

    assert await pending(owner) == {}
    assert olt.on[ONU].speed_profile == "1G"
    assert [device.speed_profile for what, device in olt.told] == ["500M", "1G"]


async def test_silent_acs_delays_no_call_to_another_acs_of_the_tenant(
    database: Database, owner: asyncpg.Connection
) -> None:
    """The silent one has more calls than are made at once, and they come first."""
    away, present = RecordingController(), RecordingController()
    cpes = [LineDevice(f"S-{nth}", f"00:1a:2b:00:00:0{nth}", tenant="acme", product_class="old") for nth in range(9)]
    other = LineDevice("S-9", CPE, tenant="acme")
    async with database.tenant("acme") as connection:
        for cpe in [*cpes, other]:
            await answered(connection, "O-1", DeviceKind.CPE, cpe, True, OFFLINE)
    await owner.execute("UPDATE pending_device_calls SET due_at = now() - interval '1 day' WHERE identity <> $1", CPE)
    away.failing = {cpe.identity: ControllerUnavailableError("the ACS does not answer") for cpe in cpes}
    kind = DeviceKind.CPE
    routes = [Route(Scope(kind, "acme", models=frozenset({"old"})), away), Route(Scope(kind, "acme"), present)]
    reconciler = DeviceReconciler(database, {kind: Router(kind, routes)})

    await owner.execute("UPDATE pending_device_calls SET due_at = now() WHERE identity = $1", CPE)
    await reconciler.sweep()

    assert [device.identity for _, device in present.told] == [CPE]
    left = await owner.fetch("SELECT identity, error FROM pending_device_calls")
    assert {row["identity"]: row["error"] for row in left} == {cpe.identity: "the ACS does not answer" for cpe in cpes}
