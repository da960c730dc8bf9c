"""Orders of one tenant beside 256 orders of another, whose OLT controller takes two seconds for each call.

The worker is a process of its own with the default settings. The other orders have no controller: provisions, which
run in local activities, and deprovisions, which also need regular ones.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import psutil

from bench.measurements import Measurement, at_least, at_most
from bench.orders import provision_order
from bench.rounds import rate
from ipam.pools import Pool, add_pool
from lastmile.client.orders import Lastmile
from lastmile.client.temporal.connection import connect
from lastmile.contract import DeprovisionSubscriber, ProvisionSubscriber, ResultStatus
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.db.database import PLATFORM_ROLE, TENANT_ROLE
from lastmile.devstack.lastmile_process import Worker
from lastmile.devstack.logins import make_login
from lastmile.devstack.ports import HOST, Ports
from lastmile.devstack.secret import ensure_secret
from lastmile.devstack.smartolt import SmartOltServer
from lastmile.devstack.smartolt.account import AccountOnu
from lastmile.services.controllers import NewController, add_controller
from lastmile.subscribers.tenants import add_tenant

__all__ = ["measure"]

SLOW = 256
"""The number of orders in flight whose controller is slow."""
SECONDS = 2.0
"""How long the controller takes for a call."""
LINES = 64
"""The number of the other orders of each type."""
IN_FLIGHT = 16
TASK_QUEUE = "bench-slow-controllers"
STEADY = 32
"""The calls of the slow controller after which the others begin."""
ONUS = 10_000
"""The number of ONUs of the slow orders: more than a run needs."""
MB = 1024 * 1024


async def measure(directory: Path, owner_url: str, temporal_address: str) -> list[Measurement]:
    """Measure the other orders alone and beside the slow ones, and the memory of the worker, in a migrated database."""
    password = ensure_secret(directory, "lastmile")
    environment = {
        "DATABASE_URL": await make_login(owner_url, "lastmile", password, TENANT_ROLE, PLATFORM_ROLE),
        "TEMPORAL_ADDRESS": temporal_address,
        "LASTMILE_STATE_DIR": str(directory),
        "LASTMILE_HTTP_HOST": HOST,
        "LASTMILE_HTTP_PORT": str(Ports(directory).claim("worker")),
        "LASTMILE_LOG_LEVEL": "ERROR",
        "LASTMILE_TASK_QUEUE": TASK_QUEUE,
    }
    lastmile = Lastmile(await connect({"TEMPORAL_ADDRESS": temporal_address}), task_queue=TASK_QUEUE)
    others, slow = count(), count()
    with SmartOltServer() as olts:
        olts.seconds = SECONDS
        olts.account.onus = [AccountOnu(str(_order("slow", number).line.onu_serial)) for number in range(ONUS)]
        await _prepare(owner_url, olts)
        port = int(environment["LASTMILE_HTTP_PORT"])
        async with Worker(directory, environment, port=port, grace_seconds=5):
            await _others(lastmile, others)  # caches, connections, prepared statements
            provisions, deprovisions = await _others(lastmile, others)
            memory = _memory()
            async with _in_flight(lastmile, olts, slow):
                beside_provisions, beside_deprovisions = await _others(lastmile, others)
                peak = _memory(peak=True)
    beside = f"beside {SLOW} orders at a slow controller"
    alone = "the same alone"
    return [
        Measurement(f"provisions {beside}", beside_provisions, "/s", alone, provisions, at_least(0.5)),
        Measurement(f"deprovisions {beside}", beside_deprovisions, "/s", alone, deprovisions, at_least(0.5)),
        Measurement(f"memory of the worker {beside}, peak", peak, "MB", "before", memory, at_most(2.0)),
    ]


async def _others(lastmile: Lastmile, numbers: "count[int]") -> tuple[float, float]:
    """Return the provisions and the deprovisions per second of the tenant without a controller."""
    lines = [_order("fast", next(numbers)) for _ in range(LINES)]
    ready, done = iter(lines), iter(lines)

    async def provision() -> None:
        await _execute(lastmile, next(ready))

    async def deprovision() -> None:
        line = next(done)
        order = DeprovisionSubscriber(
            tenant=line.tenant,
            order_id=f"end-{line.order_id}",
            subscriber_ref=line.subscriber_ref,
            reason="bench",
            requested_by="bench",
        )
        await _execute(lastmile, order)

    return await rate(provision, LINES, IN_FLIGHT), await rate(deprovision, LINES, IN_FLIGHT)


async def _execute(lastmile: Lastmile, order: ProvisionSubscriber | DeprovisionSubscriber) -> None:
    result = await lastmile.execute(order)
    if result.status is not ResultStatus.COMPLETED:
        raise RuntimeError(f"order {result.order_id} ended {result.status}: {result.reason or result.warnings}")


@asynccontextmanager
async def _in_flight(lastmile: Lastmile, olts: SmartOltServer, numbers: "count[int]") -> AsyncIterator[None]:
    """Keep `SLOW` orders in flight within the block. The rest is abandoned: no worker polls its task queue later."""

    async def client() -> None:
        while True:
            await _execute(lastmile, _order("slow", next(numbers)))

    clients = [asyncio.create_task(client()) for _ in range(SLOW)]
    began = len(olts.requests)
    try:
        while len(olts.requests) < began + STEADY:
            _raise_failure(clients)
            await asyncio.sleep(0.1)
        yield
        _raise_failure(clients)
    finally:
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


def _raise_failure(clients: "list[asyncio.Task[None]]") -> None:
    for one in clients:
        if one.done():
            one.result()


def _memory(*, peak: bool = False) -> float:
    """Return the memory of the worker's process in MB: now, or its peak (`VmHWM`)."""
    for process in psutil.Process().children(recursive=True):
        if process.cmdline()[1:3] == ["-m", "lastmile.worker"]:
            if not peak:
                return float(process.memory_info().rss) / MB
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) / 1024
    raise RuntimeError("the worker is not running")


def _order(tenant: str, number: int) -> ProvisionSubscriber:
    order = provision_order(number)
    ids = {"tenant": tenant, "order_id": f"{tenant}-{number}", "subscriber_ref": f"{tenant}-{number}"}
    return order.model_copy(update=ids | {"line": order.line.model_copy(update={"pon_port": "0/0/4"})})


async def _prepare(owner_url: str, olts: SmartOltServer) -> None:
    database = Database(owner_url)
    options = {"olts": {"olt-1": 1}, "zone": "Zone 1", "speed_profile": "1G", "calls_per_hour": 1_000_000}
    controller = {"name": "slow", "driver": "smartolt", "url": olts.url, "secret": "correct", "tenant": "slow"}
    try:
        async with database.platform() as platform:
            for tenant, space in (("fast", "3fff:300::/40"), ("slow", "3fff:400::/40")):
                await add_tenant(platform, tenant, tenant)
                pool = Pool(name="home", prefix=space, purpose=Purpose.IPV6_PD, delegated_length=56, tenant=tenant)
                await add_pool(platform, pool)
        new = NewController.model_validate(controller | {"options": options})
        await add_controller(database, new, None, replace=False, actor="bench")
    finally:
        await database.close()
