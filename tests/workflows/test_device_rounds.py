"""Rounds through the ONUs in service: a controller that has lost what it was told gets it back."""

import asyncio

import asyncpg
import pytest

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.db import Database
from lastmile.devices.errors import ControllerRefusedError, ControllerUnavailableError
from lastmile.devices.records import DeviceKind
from lastmile.devices.routing import Controllers
from lastmile.services.device_reconciler import DeviceReconciler
from lastmile.services.device_rounds import DeviceRounds
from tests.support.controllers import RecordingController
from tests.support.faults import Gate
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


@pytest.fixture
def rounds(database: Database, olt: RecordingController) -> DeviceRounds:
    return DeviceRounds(database, Controllers.everywhere(olt))


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
    lost: RecordingController, rounds: DeviceRounds, owner: asyncpg.Connection
) -> None:
    await rounds.sweep()
    assert (lost.on[ONU].download_kbps, lost.on[ONU].upload_kbps) == (500_000, 250_000)
    assert (await owner.fetchval(PENDING), await owner.fetchval(CONFIRMED)) == (None, True)
    assert len(lost.told) == 1
    await rounds.sweep()
    assert len(lost.told) == 1, "the next round is due an hour after this one"
    await owner.execute(BEGAN_LONG_AGO)
    await rounds.sweep()
    assert len(lost.told) == 2


async def test_controller_that_forgets_nothing_is_not_asked(
    lost: RecordingController, rounds: DeviceRounds, owner: asyncpg.Connection
) -> None:
    lost.forgets = False
    await rounds.sweep()
    assert lost.told == []


@pytest.mark.parametrize("count", [63, 64, 65])
async def test_round_takes_each_line_once(
    lost: RecordingController, rounds: DeviceRounds, owner: asyncpg.Connection, orders: Orders, count: int
) -> None:
    """The lines are taken in batches of 64."""
    await owner.execute(
        "INSERT INTO devices (tenant_id, subscriber_ref, kind, identity, in_service, confirmed, created_by_order,"
        " updated_by_order) SELECT 'acme', 'another-' || n, 'onu', 'ONU' || n, true, true, 'O-9', 'O-9'"
        " FROM generate_series(2, $1::int) n",
        count,
    )
    await rounds.sweep()
    assert len(lost.told) == 1
    assert await owner.fetchval("SELECT after_tenant FROM device_rounds WHERE kind = 'onu'") is None
    await rounds.sweep()
    assert len(lost.told) == 1


@pytest.mark.parametrize("refused", [True, False])
async def test_device_that_waits_or_is_refused_is_left_to_the_next_round(
    lost: RecordingController, rounds: DeviceRounds, owner: asyncpg.Connection, refused: bool
) -> None:
    """An ONU without power has lost nothing: it is no device that waits."""
    if refused:
        lost.failing[ONU] = ControllerRefusedError("the ONU was replaced")
    else:
        lost.waiting[ONU] = "ONU has no power"
    await rounds.sweep()
    assert await owner.fetchval(PENDING) is None
    assert await owner.fetchval(CONFIRMED)


async def test_call_that_fails_is_repeated_by_the_reconciler(
    lost: RecordingController, rounds: DeviceRounds, owner: asyncpg.Connection, database: Database
) -> None:
    """It may have removed flows before it failed."""
    lost.failing[ONU] = ControllerUnavailableError("the core does not answer")
    with pytest.raises(ControllerUnavailableError):
        await rounds.sweep()
    assert await owner.fetchval(PENDING) is True
    lost.failing.clear()
    await owner.execute("UPDATE pending_device_calls SET claimed_until = now()")
    await DeviceReconciler(database, {DeviceKind.ONU: lost}).sweep()
    assert (ONU in lost.on, await owner.fetchval(PENDING)) == (True, None)


async def test_order_during_a_call_of_a_round_has_the_last_word(
    lost: RecordingController,
    rounds: DeviceRounds,
    owner: asyncpg.Connection,
    database: Database,
    controlled: Lastmile,
    orders: Orders,
) -> None:
    """The call of the round can reach the device after that of the order."""
    lost.before = gate = Gate()
    looking = asyncio.create_task(rounds.sweep())
    await gate.reached.wait()
    assert (await controlled.execute(orders.deprovision())).status is ResultStatus.COMPLETED
    gate.open()
    await looking
    assert ONU in lost.on, "the call of the round was the last one"
    assert await owner.fetchval(PENDING) is False
    await DeviceReconciler(database, {DeviceKind.ONU: lost}).sweep()
    assert (ONU in lost.on, await owner.fetchval(PENDING)) == (False, None)


async def test_device_of_a_running_order_is_left_alone(
    lost: RecordingController, rounds: DeviceRounds, controlled: Lastmile, orders: Orders
) -> None:
    lost.before_off = gate = Gate()
    ending = asyncio.create_task(controlled.execute(orders.deprovision()))
    await gate.reached.wait()
    await rounds.sweep()
    assert lost.told == []
    gate.open()
    assert (await ending).status is ResultStatus.COMPLETED
