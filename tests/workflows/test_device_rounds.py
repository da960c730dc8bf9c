"""Rounds through the ONUs in service: a controller that has lost what it was told gets it back."""

import asyncio

import asyncpg
import pytest

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.db import Database
from lastmile.devices.errors import ControllerRefusedError, ControllerUnavailableError
from lastmile.devices.routing import Controllers
from lastmile.metrics.snapshot import compute_snapshot
from lastmile.services.device_reconciler import DeviceReconciler
from lastmile.services.device_rounds import DeviceRounds
from lastmile.services.devices import list_devices
from tests.metrics.snapshot_values import values
from tests.support.controllers import RecordingController
from tests.support.faults import Faults, Gate
from tests.support.orders import Orders

ONU = "ACME00000000"
PENDING = "SELECT switches_on FROM pending_device_calls"
CONFIRMED = "SELECT confirmed FROM devices WHERE kind = 'onu'"
BEGAN_LONG_AGO = "UPDATE device_rounds SET begun_at = now() - interval '2 hours'"


@pytest.fixture
def olt() -> RecordingController:
    """Return a controller that forgets what it was told."""
    controller = RecordingController()
    controller.forgets = True
    return controller


class Workers:
    """The parts of a worker that make rounds."""

    def __init__(self, database: Database, olt: RecordingController) -> None:
        controllers = Controllers.everywhere(olt)
        self.rounds = DeviceRounds(database, controllers)
        self.reconciler = DeviceReconciler(database, controllers.by_kind)

    async def sweep(self) -> None:
        await self.rounds.sweep()
        await self.reconciler.sweep()


@pytest.fixture
def workers(database: Database, olt: RecordingController) -> Workers:
    return Workers(database, olt)


@pytest.fixture
async def lost(
    controlled: Lastmile, orders: Orders, olt: RecordingController, owner: asyncpg.Connection
) -> RecordingController:
    """Return the controller, which has lost a line in service."""
    assert (await controlled.execute(orders.provision())).status is ResultStatus.COMPLETED
    await owner.execute(BEGAN_LONG_AGO)
    olt.on.clear()
    olt.told.clear()
    return olt


async def test_controller_gets_back_what_it_has_lost(
    lost: RecordingController, workers: Workers, owner: asyncpg.Connection
) -> None:
    await workers.sweep()
    assert (lost.on[ONU].download_kbps, lost.on[ONU].upload_kbps) == (500_000, 250_000)
    assert (await owner.fetchval(PENDING), await owner.fetchval(CONFIRMED)) == (None, True)
    assert len(lost.told) == 1
    await workers.sweep()
    assert len(lost.told) == 1, "the next round is due an hour after this one"
    await owner.execute(BEGAN_LONG_AGO)
    await workers.sweep()
    assert len(lost.told) == 2


async def test_device_that_is_asked_for_is_not_shown_as_waiting(
    lost: RecordingController, workers: Workers, database: Database, owner: asyncpg.Connection
) -> None:
    await workers.rounds.sweep()
    assert await owner.fetchval(PENDING) is True
    assert await list_devices(database, "acme", None) == []
    shown = await list_devices(database, "acme", (await owner.fetchval("SELECT ref FROM subscribers")))
    assert [(device.kind, device.confirmed) for device in shown] == [("onu", True), ("cpe", True)]
    taken = await compute_snapshot(database)
    assert values(taken, "lastmile_pending_device_calls")["acme", "onu"] == 0


async def test_controller_that_forgets_nothing_is_not_asked(lost: RecordingController, workers: Workers) -> None:
    lost.forgets = False
    await workers.sweep()
    assert lost.told == []


@pytest.mark.parametrize("count", [63, 64, 65])
async def test_round_takes_each_line_once(
    lost: RecordingController, workers: Workers, owner: asyncpg.Connection, count: int
) -> None:
    """The lines are taken in batches of 64."""
    await owner.execute(
        "INSERT INTO devices (tenant_id, subscriber_ref, kind, identity, in_service, confirmed, created_by_order,"
        " updated_by_order) SELECT 'acme', 'another-' || n, 'onu', 'ONU' || n, true, true, 'O-9', 'O-9'"
        " FROM generate_series(2, $1::int) n",
        count,
    )
    for _ in range(3):
        await workers.sweep()
    assert len(lost.told) == 1
    assert await owner.fetchval("SELECT after_tenant FROM device_rounds") is None


async def test_round_names_no_more_devices_than_are_asked_for(
    lost: RecordingController, workers: Workers, owner: asyncpg.Connection
) -> None:
    """Calls of orders must not wait behind all calls of a round."""
    await owner.execute(
        "INSERT INTO pending_device_calls (tenant_id, kind, identity, subscriber_ref, switches_on, device, waits_for,"
        " order_id, due_at, is_check) SELECT 'acme', 'onu', 'ONU' || n, 'another-' || n, true, '{}', '', 'O-9', now(),"
        " true FROM generate_series(1, 64) n"
    )
    await workers.rounds.sweep()
    assert await owner.fetchval("SELECT count(*) FROM pending_device_calls WHERE identity = $1", ONU) == 0


async def test_device_without_power_is_left_to_the_next_round(
    lost: RecordingController, workers: Workers, owner: asyncpg.Connection
) -> None:
    """It has lost nothing: it is no device that waits."""
    lost.waiting[ONU] = "ONU has no power"
    await workers.sweep()
    assert len(lost.told) == 1
    assert (await owner.fetchval(PENDING), await owner.fetchval(CONFIRMED)) == (None, True)


@pytest.mark.parametrize("failure", [ControllerUnavailableError("away"), ControllerRefusedError("another ONU")])
async def test_call_that_fails_is_repeated_and_shown(
    lost: RecordingController, workers: Workers, owner: asyncpg.Connection, database: Database, failure: Exception
) -> None:
    """It may have removed flows before it failed."""
    lost.failing[ONU] = failure
    await workers.sweep()
    (shown,) = await list_devices(database, "acme", None)
    assert (shown.identity, shown.error) == (ONU, str(failure))
    lost.failing.clear()
    await owner.execute("UPDATE pending_device_calls SET due_at = now()")
    await workers.sweep()
    assert (ONU in lost.on, await owner.fetchval(PENDING)) == (True, None)


async def test_order_during_a_call_of_a_round_has_the_last_word(
    lost: RecordingController, workers: Workers, owner: asyncpg.Connection, controlled: Lastmile, orders: Orders
) -> None:
    """The call of the round can reach the device after that of the order."""
    lost.before = gate = Gate()
    looking = asyncio.create_task(workers.sweep())
    await gate.reached.wait()
    assert (await controlled.execute(orders.deprovision())).status is ResultStatus.COMPLETED
    gate.open()
    await looking
    assert ONU in lost.on, "the call of the round was the last one"
    assert await owner.fetchval(PENDING) is False
    await workers.sweep()
    assert (ONU in lost.on, await owner.fetchval(PENDING)) == (False, None)


async def test_place_that_an_order_leaves_during_a_call_of_a_round_is_left(
    lost: RecordingController, workers: Workers, owner: asyncpg.Connection, controlled: Lastmile, orders: Orders
) -> None:
    """The call of the round can put the ONU into service at the former place again."""
    lost.before = gate = Gate()
    looking = asyncio.create_task(workers.sweep())
    await gate.reached.wait()
    lost.before = None
    assert (await controlled.execute(orders.relocate())).status is ResultStatus.COMPLETED
    gate.open()
    await looking
    assert lost.words[-2:] == [f"on {ONU} 1/1/1", f"off {ONU} 1/1/1"]
    await workers.sweep()
    assert lost.words[-1] == f"on {ONU} 1/1/2"
    assert await owner.fetchval(PENDING) is None


async def test_line_of_a_running_order_is_left_alone(
    lost: RecordingController, workers: Workers, controlled: Lastmile, orders: Orders, faults: Faults
) -> None:
    """The order has written the new place of the line, and has not moved the ONU yet."""
    faults.before["change_onu"] = gate = Gate()
    moving = asyncio.create_task(controlled.execute(orders.relocate()))
    await gate.reached.wait()
    await workers.sweep()
    assert lost.told == []
    gate.open()
    assert (await moving).status is ResultStatus.COMPLETED
