"""Orders with several controllers at once: each device is switched by the one that is responsible for it."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs
from temporalio.client import Client

from lastmile.client.orders import Lastmile, OrderRun
from lastmile.contract import ResultStatus
from lastmile.contract.results import OrderResult
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.services.controllers import NewController, add_controller, remove_controller
from lastmile.services.open_controllers import ControllerPool
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.faults import Faults, refused
from tests.support.line_controller import LineController
from tests.support.orders import Orders, outcomes, retrying, what_is_there

SECRET = "hush-hush"
ONU, CPE = "ACME00000000", "00:1a:2b:00:00:00"
CONFIRMED = "SELECT confirmed FROM devices WHERE kind = 'onu'"

pytestmark = pytest.mark.usefixtures("line_drivers")


@pytest.fixture
async def north() -> AsyncIterator[LineController]:
    """The controller of `olt-1`."""
    async with LineController(SECRET) as server:
        yield server


@pytest.fixture
async def south() -> AsyncIterator[LineController]:
    """The controller of `olt-2`."""
    async with LineController(SECRET) as server:
        yield server


@pytest.fixture
async def acs() -> AsyncIterator[LineController]:
    """The controller of all CPEs."""
    async with LineController(SECRET) as server:
        yield server


async def add(database: Database, name: str, server: LineController, driver: str = "line-onu", **more: Any) -> None:
    values = {"name": name, "driver": driver, "url": server.url, "secret": SECRET} | more
    await add_controller(database, NewController.model_validate(values), None, replace=True, actor="noc")


@pytest.fixture
async def pool(
    database: Database, north: LineController, south: LineController, acs: LineController
) -> AsyncIterator[ControllerPool]:
    await add(database, "north", north, olts=["olt-1"])
    await add(database, "south", south, olts=["olt-2"])
    await add(database, "acs", acs, "line-cpe")
    async with ControllerPool(database, None) as pool:
        yield pool


@pytest.fixture
async def controlled(
    client: Client, settings: Settings, database: Database, authorization: DynamicAuthorization, pool: ControllerPool
) -> AsyncIterator[Lastmile]:
    """Return the client of a provisioning system, with a worker that uses the controllers of the database."""
    async with build_worker(client, settings, database, authorization, controllers=pool.controllers):
        yield Lastmile(client, task_queue=settings.task_queue)


def report(result: OrderResult, step: str) -> tuple[str, str]:
    """Return the outcome and the reason of the step."""
    (found,) = [one for one in result.steps if one.step == step]
    assert found.outcome is not None
    return found.outcome.value, found.reason


async def test_each_onu_is_switched_by_the_controller_of_its_olt(
    controlled: Lastmile, orders: Orders, north: LineController, south: LineController, acs: LineController
) -> None:
    first, second = orders.provision(), orders.provision("O-1b", nth=1)
    second = second.model_copy(update={"line": second.line.model_copy(update={"olt": "olt-2"})})

    results = [await controlled.execute(order) for order in (first, second)]
    await controlled.execute(orders.change_plan())

    assert [result.status for result in results] == [ResultStatus.COMPLETED] * 2
    assert (north.words, south.words) == ([f"on {ONU}", f"speed {ONU}"], ["on ACME00000001"])
    rates = [(told["device"]["download_kbps"], told["device"]["upload_kbps"]) for told in north.told]
    assert rates == [(500_000, 250_000), (1_000_000, 500_000)]
    assert acs.words == [f"on {CPE}", "on 00:1a:2b:00:00:01"]


@pytest.mark.parametrize("fails", [False, True])
async def test_relocate_to_the_olt_of_another_controller_tells_both(
    controlled: Lastmile,
    orders: Orders,
    faults: Faults,
    owner: asyncpg.Connection,
    north: LineController,
    south: LineController,
    fails: bool,
) -> None:
    await controlled.execute(orders.provision())
    before = await what_is_there(owner)
    if fails:
        faults.before[("O-2", "update_account")] = refused

    result = await controlled.execute(orders.relocate(olt="olt-2"))

    if fails:
        assert result.status is ResultStatus.ROLLED_BACK
        assert north.words == [f"on {ONU}", f"off {ONU}", f"on {ONU}"]
        assert south.words == [f"on {ONU}", f"off {ONU}"]
        assert await what_is_there(owner) == before
    else:
        assert (result.status, report(result, "change_onu")) == (ResultStatus.COMPLETED, ("done", ""))
        assert (north.words, south.words) == ([f"on {ONU}", f"off {ONU}"], [f"on {ONU}"])


async def test_relocate_to_an_olt_without_a_controller_claims_nothing(
    controlled: Lastmile, orders: Orders, owner: asyncpg.Connection, north: LineController
) -> None:
    await controlled.execute(orders.provision())
    assert await owner.fetchval(CONFIRMED)

    result = await controlled.execute(orders.relocate(olt="olt-3"))

    assert report(result, "change_onu") == (
        "done",
        f"no OLT controller is configured for olt-3: recorded that {ONU} should be in service at the line's place",
    )
    assert north.words == [f"on {ONU}", f"off {ONU}"]
    assert not await owner.fetchval(CONFIRMED)
    away = await controlled.execute(orders.change_plan("O-3"))
    assert report(away, "change_onu_speed") == ("skipped", "no OLT controller is configured for olt-3")


async def test_controller_of_a_tenant_is_asked_for_its_devices_alone(
    controlled: Lastmile,
    orders: Orders,
    database: Database,
    pool: ControllerPool,
    north: LineController,
    south: LineController,
) -> None:
    for name in ("north", "south"):
        await remove_controller(database, name, actor="noc")
    await add(database, "of-acme", north, tenant="acme")
    await add(database, "of-other", south, tenant="other", olts=["olt-1"])
    await pool.sweep()

    theirs = Orders(orders.ref, tenant="other")
    assert outcomes(await controlled.execute(orders.provision()))["activate_onu"] == "done"
    assert outcomes(await controlled.execute(theirs.provision()))["activate_onu"] == "done"
    assert (north.tenants, south.tenants) == (["acme"], ["other"])

    await remove_controller(database, "of-other", actor="noc")
    await pool.sweep()
    left = await controlled.execute(theirs.deprovision())
    assert report(left, "deactivate_onu") == (
        "skipped",
        f"no OLT controller is configured for olt-1: recorded that {ONU} should be out of service",
    )
    assert len(north.words) == 1


async def test_controller_that_is_removed_during_an_order_ends_its_call(
    controlled: Lastmile, orders: Orders, database: Database, pool: ControllerPool, north: LineController
) -> None:
    north.answers.clear()
    run = await controlled.start(orders.provision())
    await north.reached.wait()
    await remove_controller(database, "north", actor="noc")
    await pool.sweep()
    north.answers.set()

    result = await run.result()
    assert (result.status, report(result, "activate_onu")) == (ResultStatus.COMPLETED, ("done", ""))
    await north.closed.wait()
    left = await controlled.execute(orders.deprovision())
    assert left.status is ResultStatus.COMPLETED
    assert outcomes(left)["deactivate_onu"] == "skipped"
    assert north.words == [f"on {ONU}"]


async def test_order_waits_for_a_controller_whose_driver_fails_and_no_secret_is_recorded(
    controlled: Lastmile,
    orders: Orders,
    database: Database,
    pool: ControllerPool,
    north: LineController,
) -> None:
    await add(database, "north", north, olts=["olt-1"], options={"fails": True})
    await pool.sweep()
    with capture_logs() as logs:
        run: OrderRun = await controlled.start(orders.provision())
        failure = await retrying(run, "activate_onu")
    assert failure.message == "The driver of controller north failed with KeyError: the log of this process says where."

    await add(database, "north", north, olts=["olt-1"])
    await pool.sweep()
    assert (await run.result()).status is ResultStatus.COMPLETED
    history = (await run.handle.fetch_history()).to_json()
    assert "The driver of controller north failed" in history
    assert SECRET not in history
    assert "controller.driver_failed" in str(logs)
