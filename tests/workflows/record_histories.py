"""Records the histories that test_replay.py holds the workflows against. Run by hand, from the repository's root:

    python -m tests.workflows.record_histories

Record anew when the commands of a workflow change on purpose, and guard the change with `workflow.patched`:
runs that are open when a new version is deployed replay what the old one did.
"""

import asyncio
import json
import socket
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from db import Database
from db.migrate import downgrade, upgrade
from devstack.postgres import EmbeddedPostgres
from devstack.temporal import DevTemporal
from devstack.temporal_program import find_temporal
from ipam.pools import add_pool
from radius.dynauth import DynamicAuthorization
from settings import Settings
from subscribers.tenants import add_tenant
from tests.conftest import POOLS
from tests.workflows.faults import Faults, Gate, refused
from tests.workflows.world import Orders, dispatched, parked, until_refused
from worker import build_worker
from workflows.client import Lastmile, OrderRun
from workflows.contract import Decision

DIRECTORY = Path(__file__).with_name("histories")

Scenario = Callable[[Lastmile, Faults, Orders], Awaitable[OrderRun]]

# Of the machine that recorded, and without a part in a replay. (`sdkMetadata` has one: the checks that apply.)
_PRIVATE = {"identity", "stackTrace", "workerVersion"}


async def provision_completed(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    return await lastmile.start(orders.provision())


async def provision_degraded(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    faults.before["activate_ipv6_lifecycle"] = refused
    return await lastmile.start(orders.provision())


async def provision_again(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    await lastmile.execute(orders.provision())
    return await lastmile.start(orders.provision())


async def provision_rolled_back(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    faults.before["create_billing_service"] = refused
    return await lastmile.start(orders.provision())


async def provision_cancelled(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    gate = faults.after["activate_onu"] = Gate()
    run = await lastmile.start(orders.provision())
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    return run


async def provision_cancelled_while_undone(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    faults.before["create_billing_service"] = refused
    gate = faults.before["release_ip_address"] = Gate()
    run = await lastmile.start(orders.provision())
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    return run


async def provision_parked_and_skipped(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    return await _steered(lastmile, await lastmile.start(orders.provision()), "skip_step")


async def deprovision_completed(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    await lastmile.execute(orders.provision())
    return await lastmile.start(orders.deprovision())


async def deprovision_rolled_back(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    await lastmile.execute(orders.provision())
    faults.before["unconfigure_cpe"] = refused
    return await lastmile.start(orders.deprovision())


async def deprovision_cancelled_too_late(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    await lastmile.execute(orders.provision())
    gate = faults.before["release_ip_address"] = Gate()
    run = await lastmile.start(orders.deprovision())
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    return run


async def deprovision_parked_and_abandoned(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    await lastmile.execute(orders.provision())
    faults.before["release_ip_address"] = refused
    return await _steered(lastmile, await lastmile.start(orders.deprovision()), "abandon")


async def dispatch_in_its_turn(lastmile: Lastmile, faults: Faults, orders: Orders) -> OrderRun:
    gate = faults.before["create_customer"] = Gate()
    first = await lastmile.start(orders.provision())
    await gate.reached.wait()
    order = orders.deprovision(not_before=datetime.now(UTC) + timedelta(seconds=1))
    held = await lastmile.scheduled.hold(order)
    assert held is not None
    dispatch = await dispatched(lastmile, held)
    await until_refused(dispatch)
    gate.open()
    await first.result()
    return OrderRun(order, dispatch)


SCENARIOS: tuple[Scenario, ...] = (
    provision_completed,
    provision_degraded,
    provision_again,
    provision_rolled_back,
    provision_cancelled,
    provision_cancelled_while_undone,
    provision_parked_and_skipped,
    deprovision_completed,
    deprovision_rolled_back,
    deprovision_cancelled_too_late,
    deprovision_parked_and_abandoned,
    dispatch_in_its_turn,
)


async def _steered(lastmile: Lastmile, run: OrderRun, update: str) -> OrderRun:
    await parked(run)
    await lastmile.steer(run.order.tenant, run.order.subscriber_ref, update, Decision(by="noc-7", why="ticket 4711"))
    return run


def _public(recorded: Any) -> Any:
    if isinstance(recorded, dict):
        return {name: _public(value) for name, value in recorded.items() if name not in _PRIVATE}
    if isinstance(recorded, list):
        return [_public(value) for value in recorded]
    return recorded


async def _record(scenario: Scenario, address: str, database_url: str) -> None:
    faults = Faults()
    client = await Client.connect(address, data_converter=pydantic_data_converter, interceptors=[faults])
    settings = Settings(task_queue=scenario.__name__)
    database = Database(database_url)
    async with database.platform() as platform:
        await add_tenant(platform, "acme", "Acme Broadband")
        await add_pool(platform, POOLS[0])
    async with (
        DynamicAuthorization(timeout=1, tries=1, in_flight=1) as authorization,
        build_worker(client, settings, database, authorization),
    ):
        run = await scenario(Lastmile(client, task_queue=settings.task_queue), faults, Orders(scenario.__name__))
        await run.result()
        history = json.loads((await run.handle.fetch_history()).to_json())
    await database.close()
    file = DIRECTORY / f"{scenario.__name__}.json"
    file.write_text(json.dumps(_public(history), indent=1).replace(socket.gethostname(), "recorder") + "\n")


async def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        async with (
            EmbeddedPostgres(directory, durable=False) as postgres,
            DevTemporal(directory, program=await find_temporal(print), database=None) as temporal,
        ):
            for scenario in SCENARIOS:
                await upgrade(postgres.url)
                await _record(scenario, temporal.address, postgres.url)
                await downgrade(postgres.url)
                print(scenario.__name__)


if __name__ == "__main__":
    asyncio.run(main())
