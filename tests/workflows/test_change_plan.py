"""Orders that change a line's plan: RADIUS, live sessions, the ONU and billing, there and back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pyrad.packet import CoARequest, DisconnectRequest
from temporalio.client import Client

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.lines import Line
from lastmile.contract.suspension import Refusal, SuspensionMode
from lastmile.db import Database
from lastmile.devices.controllers import DONE, Outcome
from lastmile.devstack.freeradius_nas import FreeRadiusNas
from lastmile.devstack.nas import ACK, ScriptedNas, nak
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.groups import Group
from lastmile.radius.membership import move_account, read_group
from lastmile.services.dry_run import dry_run
from lastmile.services.order_files.reader import NumberedOrder
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.faults import Faults, Gate, refused
from tests.support.orders import PLAN, Orders, log_in, outcomes, what_is_there
from tests.support.radius_server import running_radius
from tests.workflows.test_takeover import lost

SESSION = "4F0C-01"


@pytest.fixture
async def mikrotik(nas: ScriptedNas, owner: asyncpg.Connection) -> ScriptedNas:
    """A NAS that understands the rates in a CoA-Request."""
    await owner.execute("UPDATE nas SET type = 'mikrotik'")
    return nas


async def group(database: Database, orders: Orders) -> Group | None:
    async with database.tenant("acme") as connection:
        return await read_group(connection, f"{orders.ref}@acme.lastmile")


async def events(owner: asyncpg.Connection) -> list[tuple[str, str, str | None]]:
    rows = await owner.fetch("SELECT event, plan, previous_plan FROM billing_events ORDER BY id")
    return [tuple(row) for row in rows]


async def test_change_plan_reaches_radius_the_session_and_billing(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, mikrotik: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, SESSION, mikrotik)

    result = await lastmile.execute(orders.change_plan())

    assert (result.status, outcomes(result), result.warnings) == (
        ResultStatus.COMPLETED,
        {
            "verify_line": "done",
            "change_radius_plan": "done",
            "change_onu_speed": "skipped",
            "change_billing_plan": "done",
        },
        [],
    )
    request = await mikrotik.next_request()
    assert (request.code, request.attributes["Mikrotik-Rate-Limit"]) == (CoARequest, ["500000k/1000000k"])
    assert SESSION in mikrotik.sessions
    assert await group(database, orders) == Group("acme", "giga", 1_000_000, 500_000)
    assert await events(owner) == [("started", PLAN.name, None), ("plan_changed", "giga", PLAN.name)]
    assert tuple(await owner.fetchrow("SELECT plan, price_ref, status FROM billing_services")) == (
        *("giga", "P-1000", "active"),
    )


async def test_change_plan_and_back_leaves_the_line_as_it_was(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)
    await lastmile.execute(orders.change_plan())
    await lastmile.execute(orders.change_plan("O-3", plan=PLAN))
    assert await what_is_there(owner) == before


async def test_change_to_the_same_plan_changes_nothing(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, mikrotik: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, SESSION, mikrotik)
    result = await lastmile.execute(orders.change_plan(plan=PLAN))
    assert result.status is ResultStatus.COMPLETED
    assert result.steps[1].reason == "the line has plan fiber-500-500000-250000 already"
    assert await events(owner) == [("started", PLAN.name, None)]


async def test_rolled_back_change_tells_the_session_its_old_rate_again(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, mikrotik: ScriptedNas, faults: Faults
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, SESSION, mikrotik)
    before = await what_is_there(owner)
    faults.before["change_billing_plan"] = refused

    result = await lastmile.execute(orders.change_plan())

    assert result.status is ResultStatus.ROLLED_BACK
    rates = [(await mikrotik.next_request()).attributes["Mikrotik-Rate-Limit"] for _ in range(2)]
    assert rates == [["500000k/1000000k"], ["250000k/500000k"]]
    assert await what_is_there(owner) == before


async def test_rolled_back_change_warns_of_a_session_that_keeps_the_new_rate(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, mikrotik: ScriptedNas, faults: Faults
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, SESSION, mikrotik)

    async def refused_by_the_nas_too() -> None:
        mikrotik.script = lambda _: nak(405)
        await refused()

    faults.before["change_billing_plan"] = refused_by_the_nas_too

    result = await lastmile.execute(orders.change_plan())

    assert result.status is ResultStatus.ROLLED_BACK
    (warning,) = result.warnings
    assert warning.startswith("undo of change_radius_plan: ")
    assert warning.endswith("The change takes effect at the next login.")


async def test_undo_after_a_lost_change_tells_the_session_the_first_rate_again(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, mikrotik: ScriptedNas, faults: Faults
) -> None:
    """The lost order asked for the plan that the line has."""
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, SESSION, mikrotik)
    await lost(lastmile, orders.change_plan("O-3", plan=PLAN), faults, "close_order")
    faults.after["O-4", "change_billing_plan"] = refused

    assert (await lastmile.execute(orders.change_plan("O-4"))).status is ResultStatus.ROLLED_BACK
    rates = [(await mikrotik.next_request()).attributes["Mikrotik-Rate-Limit"] for _ in range(2)]
    assert rates == [["500000k/1000000k"], ["250000k/500000k"]]


async def test_change_back_to_the_plan_before_a_lost_change_tells_the_session(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, mikrotik: ScriptedNas, faults: Faults
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, SESSION, mikrotik)
    await lost(lastmile, orders.change_plan("O-3"), faults, "close_order")

    assert (await lastmile.execute(orders.change_plan("O-4", plan=PLAN))).status is ResultStatus.COMPLETED
    rates = [(await mikrotik.next_request()).attributes["Mikrotik-Rate-Limit"] for _ in range(2)]
    assert rates == [["500000k/1000000k"], ["250000k/500000k"]]


async def test_rolled_back_charge_leaves_two_events_that_cancel_out(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await lastmile.execute(orders.provision())
    faults.after["change_billing_plan"] = refused
    result = await lastmile.execute(orders.change_plan())
    assert result.status is ResultStatus.ROLLED_BACK
    assert (await events(owner))[1:] == [("plan_changed", "giga", PLAN.name), ("plan_changed", PLAN.name, "giga")]
    assert await owner.fetchval("SELECT plan FROM billing_services") == PLAN.name


async def test_refused_coa_is_told_and_the_session_keeps_its_rate(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, mikrotik: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, SESSION, mikrotik)
    mikrotik.script = lambda _: nak(405)

    result = await lastmile.execute(orders.change_plan())

    assert result.status is ResultStatus.DEGRADED
    assert "refused the CoA-Request for session 4F0C-01: Error-Cause 405" in result.warnings[0]
    assert "takes effect at the next login" in result.warnings[0]
    assert (await mikrotik.next_request()).code == CoARequest
    assert SESSION in mikrotik.sessions


async def test_refused_coa_ends_the_session_if_the_order_says_so(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, mikrotik: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, SESSION, mikrotik)
    mikrotik.script = lambda request: ACK if request.code == DisconnectRequest else nak(405)

    result = await lastmile.execute(orders.change_plan(on_refusal=Refusal.DISCONNECT))

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert [(await mikrotik.next_request()).code for _ in range(2)] == [CoARequest, DisconnectRequest]


async def test_silent_nas_degrades_the_change(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, mikrotik: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, SESSION, mikrotik)
    mikrotik.script = lambda _: None

    result = await lastmile.execute(orders.change_plan())

    assert result.status is ResultStatus.DEGRADED
    assert "did not answer the CoA-Request" in result.warnings[0]
    assert await group(database, orders) == Group("acme", "giga", 1_000_000, 500_000)


async def test_plan_of_a_suspended_line_changes_with_its_mode_kept(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, mikrotik: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    async with database.tenant("acme") as connection:
        slow = Group("acme", PLAN.name, PLAN.download_kbps, PLAN.upload_kbps, SuspensionMode.SLOW)
        await move_account(connection, f"{orders.ref}@acme.lastmile", slow)
    await log_in(owner, orders, SESSION, mikrotik)
    mikrotik.script = lambda _: nak(405)

    result = await lastmile.execute(orders.change_plan())

    assert (result.status, result.steps[1].reason) == (
        ResultStatus.COMPLETED,
        "the line is suspended: its rates change with the resume",
    )
    assert await group(database, orders) == replace(slow, plan="giga", download_kbps=1_000_000, upload_kbps=500_000)


async def test_change_plan_without_a_line_is_rolled_back(lastmile: Lastmile, orders: Orders) -> None:
    result = await lastmile.execute(orders.change_plan())
    assert result.status is ResultStatus.ROLLED_BACK
    assert result.reason == f"verify_line: Subscriber {orders.ref} does not exist. Check the reference and the tenant."


class SpeedController:
    """An OLT controller that records the rates of each line."""

    forgets = False

    def __init__(self) -> None:
        self.speeds: list[tuple[str, int, int, bool]] = []
        self.profiles: list[str | None] = []

    async def check(self) -> str:
        return "recording"

    async def switch_on(self, device: Any) -> Outcome:
        return DONE

    async def switch_off(self, device: Any) -> Outcome:
        return DONE

    async def set_speed(self, device: Any) -> Outcome:
        self.speeds.append((device.identity, device.download_kbps, device.upload_kbps, device.shared))
        self.profiles.append(device.speed_profile)
        return DONE


async def test_onu_gets_the_rates_of_the_plan_and_the_old_ones_back(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    orders: Orders,
    faults: Faults,
) -> None:
    controller = SpeedController()
    async with build_worker(client, settings, database, authorization, onu=controller):
        lastmile = Lastmile(client, task_queue=settings.task_queue)
        await lastmile.execute(orders.provision())
        result = await lastmile.execute(orders.change_plan())
        assert outcomes(result)["change_onu_speed"] == "done"
        assert controller.speeds == [("ACME00000000", 1_000_000, 500_000, False)]

        faults.before["change_billing_plan"] = refused
        await lastmile.execute(orders.change_plan("O-3", plan=PLAN))
    assert controller.speeds[1:] == [
        ("ACME00000000", 500_000, 250_000, False),
        ("ACME00000000", 1_000_000, 500_000, False),
    ]


async def test_onu_gets_the_speed_profile_of_the_plan_and_the_old_one_back(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    orders: Orders,
    faults: Faults,
    owner: asyncpg.Connection,
) -> None:
    controller = SpeedController()
    line = Line(connection_type="ftth", onu_serial="ACME00000000", speed_profile="500M")
    async with build_worker(client, settings, database, authorization, onu=controller):
        lastmile = Lastmile(client, task_queue=settings.task_queue)
        await lastmile.execute(orders.provision(line=line))
        before = await what_is_there(owner)
        faults.before["O-2", "change_billing_plan"] = refused
        await lastmile.execute(orders.change_plan("O-2", speed_profile="1G"))
        assert await what_is_there(owner) == before
        assert (await lastmile.execute(orders.change_plan("O-3", speed_profile="1G"))).status is ResultStatus.COMPLETED
        assert await owner.fetchval("SELECT speed_profile FROM network_profiles") == "1G"
        assert (await lastmile.execute(orders.change_plan("O-4", plan=PLAN))).status is ResultStatus.COMPLETED
    assert controller.profiles == ["1G", "500M", "1G", None]
    assert await owner.fetchval("SELECT speed_profile FROM network_profiles") is None
    assert await owner.fetchval("SELECT count(*) FROM previous_values") == 0


async def test_dry_run_of_change_plan_says_which_speed_profile_changes(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    await lastmile.execute(orders.provision(line=Line(connection_type="ftth", speed_profile="500M")))
    before = await what_is_there(owner)
    (plan,) = await dry_run(database, [NumberedOrder(1, orders.change_plan())])
    details = [step["detail"] for step in plan.as_json()["steps"] if step["step"] == "change_onu_speed"]
    assert details == ["speed_profile from 500M to none"]
    assert await what_is_there(owner) == before


@pytest.mark.freeradius_required
async def test_login_before_during_and_after_a_change_at_real_servers(
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    owner_url: str,
    faults: Faults,
    tmp_path: Path,
    unused_udp_port: int,
) -> None:
    """FreeRADIUS answers the logins, and another FreeRADIUS is the NAS with the live session."""
    await lastmile.execute(orders.provision())
    user = f"{orders.ref}@acme.lastmile"
    password = await owner.fetchval("SELECT value FROM radcheck WHERE attribute = 'Cleartext-Password'")
    sessions = [{"User-Name": user, "Acct-Session-Id": "s-1"}]
    (tmp_path / "nas").mkdir()
    (tmp_path / "server").mkdir()
    async with (
        running_radius(owner_url, owner, tmp_path / "server") as radius,
        FreeRadiusNas(tmp_path / "nas", secret=b"testing123", port=unused_udp_port, sessions=sessions),
    ):
        await owner.execute(
            "INSERT INTO nas (nasname, shortname, type, secret, coa_port) VALUES ('127.0.0.1', 'bng', 'wispr', $1, $2)",
            *("testing123", unused_udp_port),
        )

        async def rate() -> str:
            reply = await radius.send("auth", User_Name=user, User_Password=password)
            assert reply.startswith("Access-Accept")
            (line,) = [line for line in reply.splitlines() if "WISPr-Bandwidth-Max-Down" in line]
            return line.strip()

        rates = [await rate()]
        await log_in(owner, orders, "s-1", "127.0.0.1")  # the session of this login
        gate = faults.before["change_billing_plan"] = Gate()
        run = await lastmile.start(orders.change_plan())
        await gate.reached.wait()
        rates.append(await rate())
        gate.open()
        result = await run.result()
        assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
        rates.append(await rate())
    assert rates == [f"WISPr-Bandwidth-Max-Down = {kbps}000" for kbps in (500_000, 1_000_000, 1_000_000)]
