"""Orders whose ONU or CPE has yet to follow: the order says so, and claims nothing that is not so."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from temporalio.client import Client

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.db import Database
from lastmile.devices.controllers import DONE, LineDevice, Outcome
from lastmile.devices.errors import ControllerRefusedError, DeviceNotSeenError
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.controllers import RecordingController
from tests.support.faults import Faults, refused
from tests.support.orders import Orders, outcomes, what_is_there

ONU, CPE = "ACME00000000", "00:1a:2b:00:00:00"
OFFLINE = "the CPE is offline"
NOT_SEEN = "the OLT has not seen the ONU"


@pytest.fixture
async def olt() -> RecordingController:
    return RecordingController()


@pytest.fixture
async def acs() -> RecordingController:
    return RecordingController()


@pytest.fixture
async def controlled(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    olt: RecordingController,
    acs: RecordingController,
) -> AsyncIterator[Lastmile]:
    """Return the client of a provisioning system, with a worker that has both controllers."""
    async with build_worker(client, settings, database, authorization, onu=olt, cpe=acs):
        yield Lastmile(client, task_queue=settings.task_queue)


async def states(owner: asyncpg.Connection) -> dict[str, tuple[bool, bool, str]]:
    """Return of each device whether it should be in service, whether that is confirmed, and what it waits for."""
    rows = await owner.fetch("SELECT identity, in_service, confirmed, waits_for FROM devices")
    return {row["identity"]: (row["in_service"], row["confirmed"], row["waits_for"]) for row in rows}


async def test_provision_with_an_offline_cpe_is_degraded(
    controlled: Lastmile, orders: Orders, acs: RecordingController, owner: asyncpg.Connection
) -> None:
    acs.waiting[CPE] = OFFLINE

    result = await controlled.execute(orders.provision())

    assert (result.status, result.warnings) == (ResultStatus.DEGRADED, [f"configure_cpe: {OFFLINE}"])
    assert outcomes(result)["activate_onu"] == "done"
    assert await states(owner) == {ONU: (True, True, ""), CPE: (True, False, OFFLINE)}


async def test_provision_before_the_onu_was_seen_is_degraded(
    controlled: Lastmile,
    orders: Orders,
    olt: RecordingController,
    owner: asyncpg.Connection,
) -> None:
    olt.failing[ONU] = DeviceNotSeenError(NOT_SEEN)
    result = await controlled.execute(orders.provision())
    assert (result.status, result.warnings) == (ResultStatus.DEGRADED, [f"activate_onu: {NOT_SEEN}"])
    assert (await states(owner))[ONU] == (True, False, NOT_SEEN)


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


async def test_rollback_ends_when_the_device_is_out_of_service(
    controlled: Lastmile, orders: Orders, acs: RecordingController, owner: asyncpg.Connection, faults: Faults
) -> None:
    """The rollback deletes the record of the device: afterwards nothing would know that the device is in service."""
    before = await what_is_there(owner)
    faults.before["create_billing_service"] = refused

    async def offline_once(device: LineDevice) -> Outcome:
        acs.told.append(("off", device))
        return Outcome(OFFLINE) if len(acs.told) < 3 else DONE

    acs.switch_off = offline_once  # type: ignore[method-assign]
    result = await controlled.execute(orders.provision())
    assert result.status is ResultStatus.ROLLED_BACK
    assert [what for what, _ in acs.told] == ["on", "off", "off"]
    assert await what_is_there(owner) == before


async def test_deprovision_with_an_offline_cpe_keeps_the_record_of_what_waits(
    controlled: Lastmile, orders: Orders, acs: RecordingController, owner: asyncpg.Connection
) -> None:
    await controlled.execute(orders.provision())
    acs.waiting[CPE] = OFFLINE
    result = await controlled.execute(orders.deprovision())
    assert (result.status, result.warnings) == (ResultStatus.DEGRADED, [f"unconfigure_cpe: {OFFLINE}"])
    assert (await states(owner))[CPE] == (False, False, OFFLINE)


async def test_replaced_device_and_its_successor_both_say_what_they_wait_for(
    controlled: Lastmile, orders: Orders, olt: RecordingController, owner: asyncpg.Connection
) -> None:
    await controlled.execute(orders.provision())
    new = "ACME0000FFFF"
    olt.waiting = {ONU: "the ONU is being removed", new: NOT_SEEN}
    result = await controlled.execute(orders.replace_device())
    assert (result.status, result.warnings) == (
        ResultStatus.DEGRADED,
        [f"change_onu: {ONU}: the ONU is being removed; {NOT_SEEN}"],
    )
    assert (await states(owner))[new] == (True, False, NOT_SEEN)
