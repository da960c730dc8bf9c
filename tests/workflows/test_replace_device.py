"""Orders that put another ONU or CPE on a line."""

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest
from pydantic import ValidationError
from pyrad.packet import DisconnectRequest
from temporalio.client import Client

from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile
from lastmile.contract import Decision, ReplaceDevice, ResultStatus
from lastmile.contract.lines import Line
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.services.dry_run import dry_run
from lastmile.services.order_files.reader import NumberedOrder
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.controllers import RecordingController
from tests.support.faults import Faults, Gate, broken, once, refused
from tests.support.orders import Orders, log_in, outcomes, parked, what_is_there
from tests.workflows.test_takeover import lost

OLD, NEW, THIRD = "ACME00000000", "ACME0000FFFF", "ACME0000EEEE"
OLD_MAC, NEW_MAC = "00:1a:2b:00:00:00", "00:1a:2b:00:ff:ff"
CPE = {"cpe_oui": "00D09E", "cpe_product_class": "HGW-1", "cpe_serial": "CPE000001"}
NEW_CPE = CPE | {"cpe_serial": "CPE000002"}
CPE_ID, NEW_CPE_ID = "00D09E-HGW%2D1-CPE000001", "00D09E-HGW%2D1-CPE000002"
BY_MAC = Line(connection_type="ftth", onu_serial=OLD, cpe_mac=OLD_MAC, access="ipoe", identified_by="mac")


@pytest.fixture
async def with_acs(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    acs: RecordingController,
) -> AsyncIterator[Lastmile]:
    """Return the client of a provisioning system, with a worker that has an ACS."""
    async with build_worker(client, settings, database, authorization, cpe=acs):
        yield Lastmile(client, task_queue=settings.task_queue)


@pytest.fixture
async def controlled(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    olt: RecordingController,
) -> AsyncIterator[Lastmile]:
    """Return the client of a provisioning system, with a worker that has an OLT controller."""
    async with build_worker(client, settings, database, authorization, onu=olt):
        yield Lastmile(client, task_queue=settings.task_queue)


async def findings(database: Database) -> list[str]:
    return [found.invariant.name async for found in check(database, "acme")]


async def test_replace_device_records_the_new_devices_and_removes_the_old_ones(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())

    result = await lastmile.execute(orders.replace_device())

    assert (result.status, outcomes(result)) == (
        ResultStatus.COMPLETED,
        {
            "verify_line": "done",
            "change_line": "done",
            "change_onu": "skipped",
            "change_cpe": "skipped",
            "update_account": "done",
        },
    )
    assert result.steps[2].reason == (
        f"no OLT controller is configured for olt-1: recorded that {NEW} should be in service, and {OLD} out of service"
    )
    profile = await owner.fetchrow("SELECT onu_serial, cpe_mac::text FROM network_profiles")
    assert tuple(profile) == (NEW, "00:1a:2b:00:ff:ff")
    assert await owner.fetchval("SELECT identity FROM devices WHERE kind = 'onu' AND in_service") == NEW
    assert await owner.fetchval("SELECT count(*) FROM previous_values") == 0
    removed = await owner.fetch(
        "SELECT before ->> 'identity' FROM audit_log WHERE order_id = 'O-2' AND record = 'devices' ORDER BY key DESC"
    )
    assert [row[0] for row in removed] == [OLD, "00:1a:2b:00:00:00"]


async def test_replace_device_and_back_leaves_everything_as_before(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    await lastmile.execute(orders.replace_device())
    await lastmile.execute(orders.replace_device("O-3", onu_serial=OLD, cpe_mac="00:1a:2b:00:00:00"))
    assert await what_is_there(owner) == before


async def test_replace_device_by_the_same_device_completes_and_changes_nothing(
    controlled: Lastmile, orders: Orders, owner: asyncpg.Connection, olt: RecordingController
) -> None:
    await controlled.execute(orders.provision())
    before = await what_is_there(owner)

    result = await controlled.execute(orders.replace_device(onu_serial=OLD))

    assert result.status is ResultStatus.COMPLETED
    assert [step.reason for step in result.steps[1:4]] == [
        "the line has these values already",
        f"the line keeps its ONU {OLD}",
        "the line keeps its CPE 00:1a:2b:00:00:00",
    ]
    assert await what_is_there(owner) == before
    assert olt.words == [f"on {OLD} 1/1/1"]


async def test_replace_device_by_one_of_another_line_is_refused(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.provision("O-1b", nth=1))
    before = await what_is_there(owner)

    result = await lastmile.execute(orders.replace_device(onu_serial="ACME00000001"))

    assert result.status is ResultStatus.ROLLED_BACK
    assert result.reason == (
        f"change_line: onu_serial: ONU ACME00000001 already belongs to subscriber {orders.ref}-1's line, and only fttb "
        "lines share an ONU. Change or deprovision that line first, or order another value."
    )
    assert await what_is_there(owner) == before


def test_replace_device_without_a_device_is_refused(orders: Orders) -> None:
    words = "needs one of onu_serial, onu_type, speed_profile, cpe_mac, cpe_oui, cpe_product_class, cpe_serial, duid"
    with pytest.raises(ValidationError, match=words):
        ReplaceDevice(tenant="acme", order_id="O-2", subscriber_ref=orders.ref)


async def test_replace_device_switches_the_old_onu_off_and_the_new_one_on(
    controlled: Lastmile, orders: Orders, owner: asyncpg.Connection, olt: RecordingController
) -> None:
    await controlled.execute(orders.provision())
    result = await controlled.execute(orders.replace_device(onu_serial=NEW))
    assert outcomes(result)["change_onu"] == "done"
    assert olt.words == [f"on {OLD} 1/1/1", f"off {OLD} 1/1/1", f"on {NEW} 1/1/1"]
    assert await owner.fetchval("SELECT confirmed FROM devices WHERE kind = 'onu'")


async def test_replace_device_switches_the_cpes_that_tr069_identifies(
    with_acs: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, acs: RecordingController
) -> None:
    await with_acs.execute(orders.provision(line=Line(connection_type="ftth", duid="000300011a", **CPE)))
    before = await what_is_there(owner)
    faults.before[("O-2", "update_account")] = refused
    assert (await with_acs.execute(orders.replace_device(**NEW_CPE))).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before

    result = await with_acs.execute(orders.replace_device("O-3", **NEW_CPE))

    assert (result.status, outcomes(result)["change_cpe"]) == (ResultStatus.COMPLETED, "done")
    there, back = [f"off {CPE_ID} None", f"on {NEW_CPE_ID} None"], [f"off {NEW_CPE_ID} None", f"on {CPE_ID} None"]
    assert acs.words == [f"on {CPE_ID} None", *there, *back, *there]
    (cpe,) = acs.on.values()
    assert (cpe.oui, cpe.product_class, cpe.serial) == ("00D09E", "HGW-1", "CPE000002")
    assert await owner.fetchval("SELECT identity FROM devices WHERE in_service") == NEW_CPE_ID
    assert await owner.fetchval("SELECT duid FROM network_profiles") is None


async def test_replace_device_that_adds_a_mac_address_keeps_the_cpe_on(
    with_acs: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, acs: RecordingController
) -> None:
    """The line gets another name of the CPE that it has, which so gets another identity."""
    await with_acs.execute(orders.provision(line=Line(connection_type="ftth", **CPE)))
    result = await with_acs.execute(orders.replace_device(cpe_mac=NEW_MAC, **CPE))
    assert result.status is ResultStatus.COMPLETED
    assert acs.words == [f"on {CPE_ID} None", f"on {NEW_MAC} None"]
    assert await owner.fetchval("SELECT identity FROM devices") == NEW_MAC
    assert await findings(database) == []


async def test_replace_device_that_corrects_the_onu_type_keeps_the_onu_on(
    controlled: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, olt: RecordingController
) -> None:
    await controlled.execute(orders.provision())
    before = await what_is_there(owner)
    faults.before[("O-2", "update_account")] = refused
    changes = {"onu_type": "F670", "speed_profile": "1G"}
    assert (await controlled.execute(orders.replace_device(**changes))).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before

    result = await controlled.execute(orders.replace_device("O-3", **changes))

    assert (result.status, outcomes(result)["change_onu"]) == (ResultStatus.COMPLETED, "done")
    assert outcomes(result)["change_cpe"] == "skipped"
    told = [(what, device.onu_type, device.speed_profile) for what, device in olt.told]
    assert told == [("on", None, None), ("on", "F670", "1G"), ("on", None, None), ("on", "F670", "1G")]


async def test_replace_device_by_the_cpe_of_another_line_is_refused(lastmile: Lastmile, orders: Orders) -> None:
    cpe = Line(connection_type="ftth", duid="000300011a", **CPE)
    await lastmile.execute(orders.provision(line=Line(connection_type="ftth")))
    await lastmile.execute(orders.provision("O-1b", nth=1, line=cpe))

    result = await lastmile.execute(orders.replace_device(duid="00:03:00:01:1a", **CPE))

    assert result.status is ResultStatus.ROLLED_BACK
    assert result.reason == (
        f"change_line: cpe_serial: CPE {CPE_ID} already belongs to subscriber {orders.ref}-1's line; "
        f"duid: DUID 00:03:00:01:1a already belongs to subscriber {orders.ref}-1's line. "
        "Change or deprovision that line first, or order another value."
    )


async def test_order_after_a_lost_one_of_an_older_version_knows_the_onu_of_that_order(
    controlled: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, olt: RecordingController
) -> None:
    """The older version kept a device and a line without the fields that have come since."""
    await controlled.execute(orders.provision())
    before = await what_is_there(owner)
    await lost(controlled, orders.replace_device(onu_serial=NEW), faults, "change_cpe")
    await owner.execute(
        """
        UPDATE previous_values SET value = CASE step
            WHEN 'change_line' THEN jsonb_set(value, '{line}',
                (value -> 'line') - '{onu_type,speed_profile,cpe_oui,cpe_product_class,cpe_serial,duid}'::text[])
            ELSE jsonb_set(value, '{devices}', (
                SELECT jsonb_agg(device - '{onu_type,speed_profile,oui,product_class,serial}'::text[])
                FROM jsonb_array_elements(value -> 'devices') AS device))
        END
        """
    )
    faults.before[("O-3", "update_account")] = refused

    result = await controlled.execute(orders.replace_device("O-3", onu_serial=NEW))

    assert result.status is ResultStatus.ROLLED_BACK
    assert set(olt.on) == {OLD}
    assert await what_is_there(owner) == before


async def test_replace_device_that_is_rolled_back_puts_the_old_onu_back(
    controlled: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, olt: RecordingController
) -> None:
    await controlled.execute(orders.provision())
    before = await what_is_there(owner)
    faults.before[("O-2", "update_account")] = refused

    result = await controlled.execute(orders.replace_device())

    assert result.status is ResultStatus.ROLLED_BACK
    assert olt.words[3:] == [f"off {NEW} 1/1/1", f"on {OLD} 1/1/1"]
    assert await what_is_there(owner) == before


async def test_replace_device_of_a_shared_onu_leaves_the_other_lines_on(
    controlled: Lastmile, orders: Orders, olt: RecordingController
) -> None:
    house = {"connection_type": "fttb", "onu_serial": OLD, "olt": "olt-1"}
    await controlled.execute(orders.provision(line=Line(**house, pon_port="1/1/1")))
    await controlled.execute(orders.provision("O-1b", nth=1, line=Line(**house, pon_port="1/1/1")))
    await controlled.execute(orders.replace_device(onu_serial=NEW))
    assert [device.shared for what, device in olt.told if what == "off"] == [True]
    assert set(olt.on) == {OLD, NEW}


async def test_replace_device_of_a_suspended_line_keeps_its_onu_out_of_service(
    controlled: Lastmile, orders: Orders, owner: asyncpg.Connection, olt: RecordingController
) -> None:
    await controlled.execute(orders.provision())
    await owner.execute(
        "INSERT INTO suspensions (tenant_id, subscriber_ref, mode, reason, created_by_order)"
        " VALUES ('acme', $1, 'block', 'unpaid', 'O-1')",
        orders.ref,
    )
    await owner.execute("UPDATE devices SET in_service = false WHERE kind = 'onu'")

    result = await controlled.execute(orders.replace_device(onu_serial=NEW))

    assert result.status is ResultStatus.COMPLETED
    assert olt.words == [f"on {OLD} 1/1/1"]
    device = await owner.fetchrow("SELECT identity, in_service FROM devices WHERE kind = 'onu'")
    assert tuple(device) == (NEW, False)
    assert await owner.fetchval("SELECT count(*) FROM suspensions WHERE ended_at IS NULL") == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_replace_device_takes_over_a_lost_order_of_another_device(
    controlled: Lastmile,
    orders: Orders,
    faults: Faults,
    owner: asyncpg.Connection,
    olt: RecordingController,
    fails: bool,
) -> None:
    """The lost order has switched its ONU on. The next one names another, and only that one or the first stays on."""
    await controlled.execute(orders.provision())
    before = await what_is_there(owner)
    await lost(controlled, orders.replace_device(), faults, "change_cpe")
    assert set(olt.on) == {NEW}
    if fails:
        faults.before[("O-3", "update_account")] = refused

    result = await controlled.execute(orders.replace_device("O-3", onu_serial=THIRD))

    assert result.status is (ResultStatus.ROLLED_BACK if fails else ResultStatus.COMPLETED)
    assert set(olt.on) == ({OLD} if fails else {THIRD})
    if fails:
        assert await what_is_there(owner) == before
    else:  # the CPE of the lost order is not on the line
        assert await owner.fetchval("SELECT cpe_mac::text FROM network_profiles") == "00:1a:2b:00:00:00"
        assert await owner.fetchval("SELECT count(*) FROM previous_values") == 0


@pytest.mark.parametrize("after", ["replace_device", "deprovision"])
async def test_order_after_a_skipped_undo_of_replace_device_switches_off_what_that_order_left(
    controlled: Lastmile, orders: Orders, faults: Faults, database: Database, olt: RecordingController, after: str
) -> None:
    await controlled.execute(orders.provision())
    faults.before[("O-2", "update_account")] = faults.before[("O-2", "restore_onu")] = refused
    run = await controlled.start(orders.replace_device(onu_serial=NEW))
    await parked(run)
    await controlled.decide("acme", orders.ref, "skip_step", Decision(by="noc", why="the OLT is down"))
    assert (await run.result()).status is ResultStatus.PARTLY_ROLLED_BACK
    assert await findings(database) == ["half_changed", "other_device"]

    if after == "replace_device":
        await controlled.execute(orders.replace_device("O-3", onu_serial=OLD))
    else:
        await controlled.execute(orders.deprovision())

    assert set(olt.on) == ({OLD} if after == "replace_device" else set())
    assert await findings(database) == []


@pytest.mark.parametrize("repeated", [False, True])
async def test_replace_device_that_renames_the_account_ends_the_session_of_the_former_name(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults, repeated: bool
) -> None:
    """No order finds a session by the former name. A repeated attempt finds the account renamed already."""
    await lastmile.execute(orders.provision(line=BY_MAC))
    await log_in(owner, orders, "4F0C-01", nas, OLD_MAC)
    if repeated:
        faults.after[("O-2", "update_account")] = once(broken)

    result = await lastmile.execute(orders.replace_device(cpe_mac=NEW_MAC))

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert result.steps[-1].reason == f"the user name is {NEW_MAC}, and was {OLD_MAC}"
    asked = [await nas.next_request() for _ in range(2 if repeated else 1)]
    for request in asked:
        assert (request.code, request.session) == (DisconnectRequest, "4F0C-01")
        assert request.attributes["User-Name"] == [OLD_MAC]
    assert not nas.sessions


async def test_replace_device_with_a_silent_nas_is_degraded(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision(line=BY_MAC))
    await log_in(owner, orders, "4F0C-01", nas, OLD_MAC)
    nas.script = lambda _: None

    result = await lastmile.execute(orders.replace_device(cpe_mac=NEW_MAC))

    assert (result.status, outcomes(result)["update_account"]) == (ResultStatus.DEGRADED, "warned")
    assert "did not answer the Disconnect-Request for session 4F0C-01" in result.warnings[0]
    assert await owner.fetchval("SELECT username FROM radcheck") == NEW_MAC


async def test_replace_device_that_is_rolled_back_ends_the_session_of_the_new_name(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    """The new device has logged in meanwhile."""
    await lastmile.execute(orders.provision(line=BY_MAC))
    before = await what_is_there(owner)
    gate = faults.after[("O-2", "update_account")] = Gate()
    run = await lastmile.start(orders.replace_device(cpe_mac=NEW_MAC))
    await gate.reached.wait()
    await log_in(owner, orders, "4F0C-02", nas, NEW_MAC)
    await run.handle.cancel()
    gate.open()

    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert (await nas.next_request()).session == "4F0C-02"
    assert await what_is_there(owner) == before


async def test_dry_run_of_replace_device_says_what_would_change(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    (plan,) = await dry_run(database, [NumberedOrder(1, orders.replace_device(onu_serial=NEW))])
    assert json.loads(json.dumps(plan.as_json()))["steps"][1:] == [
        {"step": "change_line", "action": "change", "detail": f"onu_serial from {OLD} to {NEW}"},
        {"step": "change_onu", "action": "change", "detail": f"{NEW} in service, and {OLD} out of service"},
        {"step": "change_cpe", "action": "reuse", "detail": "the line keeps its CPE 00:1a:2b:00:00:00"},
        {"step": "update_account", "action": "reuse", "detail": f"account {orders.ref}@acme.lastmile"},
    ]
    assert await what_is_there(owner) == before


async def test_dry_run_of_replace_device_says_what_the_line_loses(
    lastmile: Lastmile, orders: Orders, database: Database
) -> None:
    await lastmile.execute(orders.provision(line=Line(connection_type="ftth", cpe_mac=OLD_MAC, duid="000300011a")))
    (plan,) = await dry_run(database, [NumberedOrder(1, orders.replace_device(onu_type="F660", **CPE))])
    details = {step["step"]: step["detail"] for step in json.loads(json.dumps(plan.as_json()))["steps"]}
    assert details["change_line"] == (
        f"onu_type from none to F660, cpe_mac from {OLD_MAC} to none, cpe_oui from none to 00D09E, "
        "cpe_product_class from none to HGW-1, cpe_serial from none to CPE000001, duid from 00:03:00:01:1a to none"
    )
    assert details["change_onu"] == "the line has no ONU"
    assert details["change_cpe"] == f"{CPE_ID} in service, and {OLD_MAC} out of service"


async def test_dry_run_of_replace_device_names_the_corrected_fields(
    lastmile: Lastmile, orders: Orders, database: Database
) -> None:
    await lastmile.execute(orders.provision())
    corrected = orders.replace_device(onu_type="F660", cpe_mac=OLD_MAC, **CPE)
    (plan,) = await dry_run(database, [NumberedOrder(1, corrected)])
    details = {step["step"]: step["detail"] for step in json.loads(json.dumps(plan.as_json()))["steps"]}
    assert details["change_onu"] == f"{OLD} in service with the new onu_type"
    assert details["change_cpe"] == f"{OLD_MAC} in service with the new cpe_oui, cpe_product_class, cpe_serial"
