"""Each order that changes a line, next to a provision: orders per second with 32 in flight, and the duration alone."""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

from bench.measurements import Measurement
from bench.orders import BATCH, IN_FLIGHT, LONE, provision_order
from bench.rounds import Measured, Turn, each, medians, rate
from ipam.pools import Pool, add_pool
from lastmile.client.orders import Lastmile
from lastmile.client.temporal.connection import connect
from lastmile.contract import AnyOrder, Operation, ProvisionSubscriber, ResultStatus
from lastmile.contract.addressing import Purpose
from lastmile.contract.operations import OPERATIONS
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.subscribers.tenants import add_tenant
from lastmile.worker import build_worker

__all__ = ["measure"]

ROUNDS = 3
TENANT = "changes"
LINES = range(30_000_000, 30_000_000 + LONE + BATCH)
"""The lines that are changed, above the numbers of the other benchmarks."""

Content = Callable[[int, int], dict[str, Any]]
"""The order's own fields for this line at this time: two orders of a line in a row ask for different things."""


def _plan(line: int, time: int) -> dict[str, Any]:
    return {"plan": {"name": f"plan-{time % 2}", "download_kbps": 100_000 * (1 + time % 2), "upload_kbps": 50_000}}


CONTENTS: dict[Operation, Content] = {
    Operation.UPDATE_CUSTOMER: lambda line, time: {"name": f"Ada {time}"},
    Operation.ROTATE_CREDENTIALS: lambda line, time: {},
    Operation.REPLACE_DEVICE: lambda line, time: {"onu_serial": f"HWTC{line + 1000 * (time + 1):08X}"},
    Operation.RELOCATE: lambda line, time: {"olt": f"olt-{2 + time}"},
    Operation.TRANSFER: lambda line, time: {"customer": {"ref": f"C-{line}-{time % 2}", "name": "Grace Hopper"}},
    Operation.CHANGE_PLAN: _plan,
    Operation.SUSPEND: lambda line, time: {"reason": "unpaid", "mode": "block"},
    Operation.RESUME: lambda line, time: {},
    Operation.RENUMBER: lambda line, time: {"overlap_hours": 0},
    Operation.CHANGE_ADDRESSING: lambda line, time: {"addressing": {"ipv4_mode": "none" if time % 2 else "static"}},
}


async def measure(database_url: str, temporal_address: str) -> list[Measurement]:
    """Measure every order type that changes a line, in a migrated database."""
    settings = Settings()
    database = Database(database_url, pool_size=settings.database_pool_size)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        pool = Pool(name="home", prefix="3fff:2::/32", purpose=Purpose.IPV6_PD, delegated_length=56, tenant=TENANT)
        ipv4 = Pool(name="static", prefix="198.18.0.0/16", purpose=Purpose.IPV4, delegated_length=32, tenant=TENANT)
        async with database.platform() as platform:
            await add_tenant(platform, TENANT, "Changes")
            await add_pool(platform, pool)
            await add_pool(platform, ipv4)
        client = await connect({"TEMPORAL_ADDRESS": temporal_address})
        authorization = await stack.enter_async_context(DynamicAuthorization(timeout=1, tries=2, in_flight=64))
        await stack.enter_async_context(build_worker(client, settings, database, authorization))
        lastmile = Lastmile(client)
        for line in LINES:
            await lastmile.execute(_provision(line))
        provisions = (_provision(number) for number in count(31_000_000))
        turns = {"provision": _turn(lastmile, provisions)}
        turns |= {operation: _turn(lastmile, _changes(operation)) for operation in CONTENTS}
        await medians(1, turns)  # caches, connections, prepared statements
        found = await medians(ROUNDS, turns)
    peer = found["provision"]
    return [
        measurement
        for operation in CONTENTS
        for measurement in (
            Measurement(
                f"{operation}, {IN_FLIGHT} in flight", found[operation]["rate"], "/s", "provision", peer["rate"]
            ),
            Measurement(f"{operation} alone, median", found[operation]["latency"], "ms", "provision", peer["latency"]),
        )
    ]


def _turn(lastmile: Lastmile, orders: Iterator[AnyOrder]) -> Turn:
    async def work() -> None:
        result = await lastmile.execute(next(orders))
        if result.status is not ResultStatus.COMPLETED:
            raise RuntimeError(f"order {result.order_id} ended {result.status}: {result.reason or result.warnings}")

    async def turn() -> Measured:
        latency = await each(work, LONE)
        return {"latency": latency * 1000, "rate": await rate(work, BATCH, IN_FLIGHT)}

    return turn


def _changes(operation: Operation) -> Iterator[AnyOrder]:
    """Yield orders without end: one for each line, then the next one for each line."""
    model = OPERATIONS[operation].model
    for time in count():
        for line in LINES:
            values = {"tenant": TENANT, "order_id": f"{operation}-{time}-{line}", "subscriber_ref": f"S-{line}"}
            yield model.model_validate({**values, **CONTENTS[operation](line, time)})


def _provision(number: int) -> ProvisionSubscriber:
    return provision_order(number).model_copy(update={"tenant": TENANT})
