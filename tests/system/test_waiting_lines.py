"""Many new lines, of which some wait for their CPE or ONU, at an ACS that restarts twice, on real sockets.

Every order's outcome is what the stand-ins know of its devices, and all lines converge when the devices come.
`make test-every-way` provisions 1 000 lines.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from random import Random

import asyncpg
import pytest
from temporalio.client import Client

from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile
from lastmile.contract import ProvisionSubscriber, ResultStatus
from lastmile.contract.lines import Line
from lastmile.contract.results import OrderResult
from lastmile.db import Database
from lastmile.devstack.genieacs import GenieAcsServer
from lastmile.devstack.genieacs.cpe import Cpe, Reachability
from lastmile.devstack.genieacs.cpe_models import tr_181_cpe
from lastmile.devstack.smartolt import SmartOltServer
from lastmile.devstack.smartolt.account import AccountOnu
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.services.controllers import NewController, add_controller
from lastmile.services.device_reconciler import DeviceReconciler
from lastmile.services.open_controllers import ControllerPool
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.orders import Orders, outcomes, retrying

LINES = 1000 if "LASTMILE_EVERY_CASE" in os.environ else 200
ABSENT = LINES // 20
AT_ONCE = 32
RESTARTS = (LINES // 3, 2 * LINES // 3)
SEED = 17


@dataclass(frozen=True)
class NetworkLine:
    """A line of the network, with its devices at the stand-ins."""

    number: int
    onu: AccountOnu
    cpe: Cpe

    @property
    def cpe_identity(self) -> str:
        return f"00D09E-HGW%2D1-{self.cpe.identity['_SerialNumber']}"

    def order(self, orders: Orders) -> ProvisionSubscriber:
        line = Line(
            connection_type="ftth",
            onu_serial=self.onu.serial,
            olt="olt-1",
            pon_port=f"0/{self.onu.board}/{self.onu.port}",
            s_vlan=100,
            c_vlan=1 + self.number,
            cpe_oui="00D09E",
            cpe_product_class="HGW-1",
            cpe_serial=self.cpe.identity["_SerialNumber"],
        )
        return orders.provision(f"O-{self.number}", self.number + 1, line=line)


class Network:
    """The stand-ins of SmartOLT and GenieACS, with the devices of all lines: some are not connected."""

    def __init__(self) -> None:
        self.olts = SmartOltServer()
        self.acs = GenieAcsServer()
        self.lines = [self._add(number) for number in range(LINES)]
        random = Random(SEED)
        for line in random.sample(self.lines, ABSENT):
            line.onu.plugged = False
        for line in random.sample(self.lines, ABSENT):
            line.cpe.reachability = Reachability.OFFLINE

    def _add(self, number: int) -> NetworkLine:
        onu = AccountOnu(f"ACME{number:08X}", board=str(number // 64 % 16), port=str(number // 4 % 16))
        cpe = tr_181_cpe(f"CPE{number:06}")
        self.acs.acs.add(cpe)
        return NetworkLine(number, self.olts.account.add(onu), cpe)

    def connect_all(self) -> None:
        """Connect the ONUs and CPEs that are away; each CPE informs."""
        for line in self.lines:
            line.onu.plugged = True
            if line.cpe.reachability is Reachability.OFFLINE:
                line.cpe.reachability = Reachability.ONLINE
                self.acs.acs.inform(line.cpe)

    def onu_in_service(self, line: NetworkLine) -> bool:
        """Return whether the ONU has power, and serves the VLAN of the line."""
        onu = line.onu
        return onu.plugged and onu.in_service and (onu.authorized or {}).get("vlan") == str(1 + line.number)

    def cpe_in_service(self, line: NetworkLine, subscriber_ref: str) -> bool:
        """Return whether the CPE itself has the settings of the line, and the ACS keeps it so."""
        values = [line.cpe.read(f"Device.{path}") for path in ("DeviceInfo.ProvisioningCode", "PPP.Interface.1.Enable")]
        return values == [subscriber_ref, True] and "lastmile" in self.acs.acs.devices[line.cpe.id].tags


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    with network.olts, network.acs:
        yield network


@pytest.fixture
async def controllers(database: Database, network: Network) -> AsyncIterator[ControllerPool]:
    """Add the controllers, and open them as a worker does."""
    options = {"olts": {"olt-1": 1}, "zone": "Zone 1", "speed_profile": "1G", "calls_per_hour": 10 * LINES}
    for new in (
        {"name": "olts", "driver": "smartolt", "url": network.olts.url, "secret": "correct", "options": options},
        {"name": "acs", "driver": "genieacs", "url": network.acs.url},
    ):
        await add_controller(database, NewController.model_validate(new), None, replace=False, actor="noc")
    async with ControllerPool(database, None) as pool:
        yield pool


@pytest.fixture
async def lastmile(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    controllers: ControllerPool,
) -> AsyncIterator[Lastmile]:
    async with build_worker(client, settings, database, authorization, controllers=controllers.controllers):
        yield Lastmile(client, task_queue=settings.task_queue)


@pytest.mark.timeout(900)
async def test_orders_tell_the_truth_and_lines_converge_when_their_devices_come(
    lastmile: Lastmile, orders: Orders, network: Network, database: Database, owner: asyncpg.Connection
) -> None:
    results = await provision_all(lastmile, orders, network)

    assert len(results) == LINES
    for line in network.lines:
        result = results[line.number]
        assert (result.status, result.warnings) == expected(network, line), line
        claimed = outcomes(result)
        in_service = (network.onu_in_service(line), network.cpe_in_service(line, result.subscriber_ref))
        assert (claimed["activate_onu"] == "done", claimed["configure_cpe"] == "done") == in_service, line
    assert await unconfirmed(owner) == await waiting(owner) == absent(network)
    assert len(absent(network)) == 2 * ABSENT

    network.connect_all()
    await owner.execute("UPDATE pending_device_calls SET due_at = now()")
    async with ControllerPool(database, None) as pool:  # the worker's own shares its list of ONUs for a minute
        await DeviceReconciler(database, pool.controllers.by_kind).sweep()

    assert await waiting(owner) == await unconfirmed(owner) == set()
    for line in network.lines:
        assert network.onu_in_service(line), line
        assert network.cpe_in_service(line, results[line.number].subscriber_ref), line
    assert (network.acs.acs.tasks, network.acs.acs.faults) == ({}, {})
    assert [f"{found.invariant.name}: {found.words}" async for found in check(database)] == []


async def provision_all(lastmile: Lastmile, orders: Orders, network: Network) -> dict[int, OrderResult]:
    """Provision all lines, `AT_ONCE` at a time, and restart the ACS in the middle; return the results by number."""
    left = iter(network.lines)
    results: dict[int, OrderResult] = {}

    async def client() -> None:
        for line in left:
            if line.number in RESTARTS:
                network.acs.stop()
            run = await lastmile.start(line.order(orders))
            if line.number in RESTARTS:
                await retrying(run, "configure_cpe")
                network.acs.start()
            results[line.number] = await run.result()

    async with asyncio.TaskGroup() as clients:
        for _ in range(AT_ONCE):
            clients.create_task(client())
    return results


def expected(network: Network, line: NetworkLine) -> tuple[ResultStatus, list[str]]:
    """Return the status of the line's order and its warnings, as the stand-ins know the devices."""
    warnings = []
    if not line.onu.plugged:
        serial = line.onu.serial
        unseen = f"olt-1 has not discovered ONU {serial} yet. It does when the ONU has power and signal."
        warnings.append(f"activate_onu: {serial}: {unseen}")
    if line.cpe.reachability is Reachability.OFFLINE:
        warnings.append(f"configure_cpe: {line.cpe_identity}: the CPE is offline")
    return ResultStatus.DEGRADED if warnings else ResultStatus.COMPLETED, warnings


def absent(network: Network) -> set[str]:
    """Return the devices that are not connected, as the orders name them."""
    onus = {line.onu.serial for line in network.lines if not line.onu.plugged}
    return onus | {line.cpe_identity for line in network.lines if line.cpe.reachability is Reachability.OFFLINE}


async def unconfirmed(owner: asyncpg.Connection) -> set[str]:
    """Return the devices that should be in service, and of which no controller has confirmed it."""
    rows = await owner.fetch("SELECT identity FROM devices WHERE in_service AND NOT confirmed")
    return {row["identity"] for row in rows}


async def waiting(owner: asyncpg.Connection) -> set[str]:
    """Return the devices with a call that puts them into service later."""
    rows = await owner.fetch("SELECT identity FROM pending_device_calls WHERE switches_on")
    return {row["identity"] for row in rows}
