"""`lastmile devices`: what operators see of ONUs and CPEs that have yet to follow."""

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.devices.controllers import LineDevice
from lastmile.devices.pending_calls import begin_call
from lastmile.devices.records import DeviceKind, set_target_state
from tests.support.commands import Cli
from tests.support.controllers import answered

ONU, CPE = "ACME00000001", "00:1a:2b:00:00:01"


@pytest.fixture(autouse=True)
async def line(database: Database) -> None:
    """A line of acme's whose ONU is in service, and whose CPE is offline."""
    async with database.tenant("acme") as connection:
        for kind, identity, waits_for in ((DeviceKind.ONU, ONU, ""), (DeviceKind.CPE, CPE, "the CPE is offline")):
            await set_target_state(connection, "acme", "O-1", "S-1", kind, identity, True)
            await answered(connection, "O-1", kind, LineDevice("S-1", identity), True, waits_for)


async def test_devices_lists_those_that_wait(cli: Cli) -> None:
    ran = await cli("devices", "--json")
    assert (ran.code, [device["identity"] for device in ran.json]) == (0, [CPE])
    (waiting,) = ran.json
    assert (waiting["in_service"], waiting["confirmed"], waiting["waits_for"]) == (True, False, "the CPE is offline")
    assert waiting["since"] < waiting["next_try_at"]
    shown = (await cli("devices", "--tenant", "acme")).out
    assert f"CPE {CPE}" in shown
    assert "the CPE is offline" in shown
    assert ONU not in shown
    assert (await cli("devices", "--tenant", "other")).out == "No device waits.\n"


async def test_devices_of_a_subscriber_lists_all_of_them(cli: Cli) -> None:
    ran = await cli("devices", "S-1", "--tenant", "acme", "--json")
    assert [(device["identity"], device["confirmed"]) for device in ran.json] == [(CPE, False), (ONU, True)]
    unknown = await cli("devices", "S-2", "--tenant", "acme")
    assert (unknown.code, unknown.out) == (0, "Subscriber S-2 has no devices.\n")


async def test_device_out_of_service_that_no_record_has_is_listed(cli: Cli, database: Database) -> None:
    """After a rollback: its record is gone, and the device must still be put out of service."""
    former = LineDevice("S-2", "00:1a:2b:00:00:02")
    async with database.tenant("acme") as connection:
        await answered(connection, "O-2", DeviceKind.CPE, former, False, "the CPE is offline")
    shown = (await cli("devices", "S-2", "--tenant", "acme")).out
    assert "out of service" in shown


async def test_retry_asks_the_controllers_of_the_subscriber_at_once(
    cli: Cli, database: Database, owner: asyncpg.Connection
) -> None:
    async with database.tenant("acme") as connection:
        other = LineDevice("S-2", "00:1a:2b:00:00:02")
        await answered(connection, "O-2", DeviceKind.CPE, other, True, "the CPE is offline")
    due = "SELECT subscriber_ref FROM pending_device_calls WHERE due_at <= now()"
    assert await owner.fetch(due) == []
    ran = await cli("devices", "S-1", "--retry", "--tenant", "acme")
    assert ran.code == 0
    assert "Workers ask the controllers again now" in ran.out
    assert [row["subscriber_ref"] for row in await owner.fetch(due)] == ["S-1"]


async def test_retry_of_a_subscriber_without_waiting_devices_says_so(cli: Cli) -> None:
    ran = await cli("devices", "S-2", "--retry", "--tenant", "acme")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "No device of subscriber S-2 waits.")


async def test_retry_without_a_subscriber_is_refused(cli: Cli) -> None:
    ran = await cli("devices", "--retry")
    assert (ran.code, ran.err) == (2, "--retry needs a SUBSCRIBER: name the subscriber whose devices are ready.\n")


async def test_retry_leaves_a_call_that_a_step_is_making(
    cli: Cli, database: Database, owner: asyncpg.Connection
) -> None:
    async with database.tenant("acme") as connection:
        await begin_call(connection, "acme", "O-2", DeviceKind.ONU, LineDevice("S-1", ONU), True)
    await cli("devices", "S-1", "--retry", "--tenant", "acme")
    due = await owner.fetch("SELECT identity FROM pending_device_calls WHERE due_at <= now()")
    assert [row["identity"] for row in due] == [CPE]


DROP = ("drop-device-call", "S-1", CPE, "--tenant", "acme", "--why", "the CPE was scrapped", "--by", "ada")


async def test_dropped_call_is_repeated_no_more_and_the_device_is_unconfirmed(
    cli: Cli, owner: asyncpg.Connection
) -> None:
    dropped = await cli(*DROP)
    assert dropped.code == 0, dropped.err
    assert await owner.fetch("SELECT * FROM pending_device_calls") == []
    shown = await cli("devices", "S-1", "--tenant", "acme", "--json")
    states = {device["identity"]: (device["in_service"], device["confirmed"]) for device in shown.json}
    assert states == {CPE: (True, False), ONU: (True, True)}
    history = (await cli("history", "S-1", "--tenant", "acme")).out
    assert f"waiting call of {CPE} removed" in history
    assert "dropped by ada: the CPE was scrapped" in history


async def test_call_is_not_dropped_while_an_order_runs(cli: Cli, owner: asyncpg.Connection) -> None:
    await owner.execute(
        "INSERT INTO orders (tenant_id, order_id, operation, effect, subscriber_ref, digest, run_id, status)"
        " VALUES ('acme', 'O-7', 'change_plan', 'changes', 'S-1', 'd', 'r1', 'running')"
    )
    refused = await cli(*DROP)
    assert refused.code == 1
    assert refused.err.startswith("Order O-7 of subscriber S-1 is running, and may ask for the device.")
    assert await owner.fetchval("SELECT count(*) FROM pending_device_calls") == 1


async def test_device_that_does_not_wait_has_no_call_to_drop(cli: Cli, owner: asyncpg.Connection) -> None:
    refused = await cli("drop-device-call", "S-1", ONU, "--tenant", "acme", "--why", "scrapped", "--by", "ada")
    assert refused.code == 1
    assert refused.err.startswith(f"Device {ONU} of subscriber S-1 does not wait")
    assert await owner.fetchval("SELECT count(*) FROM pending_device_calls") == 1
