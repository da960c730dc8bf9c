"""Orders that move a line to another place in the access network."""

import asyncpg
import pytest
from pydantic import ValidationError

from lastmile.client.orders import Lastmile
from lastmile.contract import Decision, RelocateLine, ResultStatus
from lastmile.contract.lines import Line
from lastmile.db import Database
from lastmile.services.dry_run import dry_run
from lastmile.services.order_files.reader import NumberedOrder
from tests.support.controllers import RecordingController
from tests.support.faults import Faults, Gate, refused
from tests.support.orders import Orders, outcomes, parked, what_is_there

ONU, CPE = "ACME00000000", "00:1a:2b:00:00:00"
AT_THE_OLD_PLACE = Line(
    connection_type="ftth", onu_serial="ACME00000001", olt="olt-1", pon_port="1/1/1", s_vlan=100, c_vlan=200
)
CHECKED = "SELECT attribute, value FROM radcheck WHERE attribute LIKE 'ADSL-%'"


def with_circuit(nth: int = 0) -> Line:
    return Line(
        connection_type="ftth",
        onu_serial=f"ACME{nth:08X}",
        olt="olt-1",
        pon_port="1/1/1",
        circuit_id=f"olt-1 {nth}",
        option82_policy="enforce",
    )


async def test_relocate_authorises_the_onu_at_the_new_place_and_not_at_the_old_one(
    controlled: Lastmile, orders: Orders, owner: asyncpg.Connection, olt: RecordingController, acs: RecordingController
) -> None:
    await controlled.execute(orders.provision())

    result = await controlled.execute(orders.relocate())

    assert (result.status, outcomes(result)["change_onu"]) == (ResultStatus.COMPLETED, "done")
    profile = await owner.fetchrow("SELECT olt, pon_port, s_vlan, c_vlan FROM network_profiles")
    assert tuple(profile) == ("olt-1", "1/1/2", 100, 300)
    assert olt.words[1:] == [f"off {ONU} 1/1/1", f"on {ONU} 1/1/2"]
    assert [(what, device.c_vlan) for what, device in acs.told[1:]] == [("on", 300)]


async def test_relocate_that_is_rolled_back_puts_the_line_back(
    controlled: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, olt: RecordingController
) -> None:
    await controlled.execute(orders.provision())
    before = await what_is_there(owner)
    faults.before[("O-2", "update_account")] = refused

    result = await controlled.execute(orders.relocate())

    assert result.status is ResultStatus.ROLLED_BACK
    assert olt.words[3:] == [f"off {ONU} 1/1/2", f"on {ONU} 1/1/1"]
    assert await what_is_there(owner) == before


async def test_undo_of_relocate_tells_no_controller_while_another_line_has_the_old_place(
    controlled: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, olt: RecordingController
) -> None:
    """The other line was provisioned at the old place while the order ran."""
    await controlled.execute(orders.provision())
    gate = Gate()

    async def fail() -> None:
        await gate()
        await refused()

    faults.before[("O-2", "update_account")] = fail
    run = await controlled.start(orders.relocate())
    await gate.reached.wait()
    await controlled.execute(orders.provision("O-1b", nth=1, line=AT_THE_OLD_PLACE))
    gate.open()

    progress = await parked(run)

    assert progress.parked is not None
    assert "already belong to subscriber" in progress.parked.failure
    assert olt.words[3:] == ["on ACME00000001 1/1/1"]
    await controlled.execute(orders.deprovision("O-9b", subscriber_ref=f"{orders.ref}-1"))
    await controlled.decide("acme", orders.ref, "retry_step", Decision(by="noc", why="the place is free again"))
    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert olt.words[4:] == ["off ACME00000001 1/1/1", f"off {ONU} 1/1/2", f"on {ONU} 1/1/1"]


async def test_relocate_and_back_leaves_everything_as_before(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    await lastmile.execute(orders.relocate())
    await lastmile.execute(orders.relocate("O-3", pon_port="1/1/1", c_vlan=200))
    assert await what_is_there(owner) == before


async def test_relocate_gives_the_onu_the_speed_profile_of_the_new_olt(
    controlled: Lastmile, orders: Orders, olt: RecordingController
) -> None:
    line = Line(connection_type="ftth", onu_serial=ONU, onu_type="F660", speed_profile="500M", olt="olt-1")
    await controlled.execute(orders.provision(line=line))
    await controlled.execute(orders.relocate(olt="olt-2", speed_profile="500-down"))
    told = [(what, device.olt, device.onu_type, device.speed_profile) for what, device in olt.told]
    assert told == [
        ("on", "olt-1", "F660", "500M"),
        ("off", "olt-1", "F660", "500M"),
        ("on", "olt-2", "F660", "500-down"),
    ]


async def test_relocate_to_the_vlans_of_another_line_is_refused(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.provision("O-1b", nth=1))
    before = await what_is_there(owner)

    result = await lastmile.execute(orders.relocate(c_vlan=201))

    assert result.reason == (
        "change_line: c_vlan: S-VLAN 100 and C-VLAN 201 on port 1/1/1 of OLT olt-1 already belong to subscriber "
        f"{orders.ref}-1's line. Change or deprovision that line first, or order another value."
    )
    assert await what_is_there(owner) == before


async def test_relocate_to_an_enforced_circuit_id_of_another_line_is_refused(
    lastmile: Lastmile, orders: Orders
) -> None:
    await lastmile.execute(orders.provision(line=with_circuit()))
    await lastmile.execute(orders.provision("O-1b", nth=1, line=with_circuit(1)))
    result = await lastmile.execute(orders.relocate(circuit_id="olt-1 1"))
    assert result.status is ResultStatus.ROLLED_BACK
    assert f"circuit_id: 'olt-1 1' already belongs to subscriber {orders.ref}-1's line" in result.reason


@pytest.mark.parametrize("fails", [False, True])
async def test_relocate_changes_the_checked_circuit_id_with_the_line(
    lastmile: Lastmile, orders: Orders, faults: Faults, owner: asyncpg.Connection, fails: bool
) -> None:
    await lastmile.execute(orders.provision(line=with_circuit()))
    before = await owner.fetch(CHECKED)
    if fails:
        faults.after[("O-2", "update_account")] = refused

    result = await lastmile.execute(orders.relocate(circuit_id="olt-2 7"))

    checked = await owner.fetch(CHECKED)
    if fails:
        assert checked == before
    else:
        assert [tuple(row) for row in checked] == [("ADSL-Agent-Circuit-Id", f"0x{b'olt-2 7'.hex()}")]
        assert outcomes(result)["change_onu"] == "skipped"


async def test_relocate_to_the_user_name_of_a_foreign_account_is_refused(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """Another system has written the account, as daloRADIUS does."""
    line = Line(connection_type="ftth", access="ipoe", identified_by="circuit_id", circuit_id="olt-1-1")
    await lastmile.execute(orders.provision(line=line))
    await owner.execute(
        "INSERT INTO radcheck (username, attribute, op, value) VALUES ('olt-1-2', 'User-Password', '==', 'x')"
    )
    before = await what_is_there(owner)

    result = await lastmile.execute(orders.relocate(circuit_id="olt-1-2"))

    assert result.reason.startswith(
        "update_account: line: user name olt-1-2 already belongs to an account that is none of this tenant's lines."
    )
    assert await what_is_there(owner) == before


def test_relocate_without_a_place_is_refused(orders: Orders) -> None:
    with pytest.raises(ValidationError, match="needs an olt, a pon_port"):
        RelocateLine(tenant="acme", order_id="O-2", subscriber_ref=orders.ref)


async def test_dry_run_of_relocate_says_what_would_change(
    lastmile: Lastmile, orders: Orders, database: Database
) -> None:
    await lastmile.execute(orders.provision())
    (plan,) = await dry_run(database, [NumberedOrder(1, orders.relocate())])
    assert [(step.action, step.detail) for step in plan.steps[1:]] == [
        ("change", "pon_port from 1/1/1 to 1/1/2, c_vlan from 200 to 300"),
        ("change", f"{ONU} in service at the new place"),
        ("change", f"{CPE} in service at the new place"),
        ("reuse", f"account {orders.ref}@acme.lastmile"),
    ]
