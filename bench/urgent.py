"""The duration of an urgent order alone, and beside a burst of normal orders of another tenant."""

import asyncio
from contextlib import AsyncExitStack
from itertools import count

from sqlalchemy import text
from temporalio.worker import Worker

from bench.measurements import Measurement, at_most
from bench.orders import provision_order
from bench.rounds import each
from ipam.pools import Pool, add_pool
from lastmile.client.orders import Lastmile
from lastmile.client.temporal.connection import connect
from lastmile.contract import ProvisionSubscriber, ResultStatus, Urgency
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.subscribers.tenants import add_tenant
from lastmile.worker import build_worker

__all__ = ["BURST", "measure"]

BURST = 1_000
"""The number of orders in the burst."""
STARTING = 32
"""The number of orders that the client starts at a time."""
URGENT = 9
"""The number of urgent orders, one after the other."""
WARM_UP = 3
"""The number of urgent orders before that: caches, connections, prepared statements."""
TASK_QUEUE = "bench-urgent"


async def measure(database_url: str, temporal_address: str) -> list[Measurement]:
    """Measure the median of both. The rest of the burst is abandoned, since no worker polls its task queue later."""
    settings = Settings(task_queue=TASK_QUEUE)
    database = Database(database_url, pool_size=settings.database_pool_size)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await _prepare(database)
        client = await connect({"TEMPORAL_ADDRESS": temporal_address})
        lastmile = Lastmile(client, task_queue=TASK_QUEUE)
        authorization = await stack.enter_async_context(DynamicAuthorization(timeout=1, tries=2, in_flight=64))
        numbers = count()

        async def urgent() -> None:
            order = _order("urgent", next(numbers)).model_copy(update={"urgency": Urgency.URGENT})
            result = await lastmile.execute(order)
            if result.status is not ResultStatus.COMPLETED:
                raise RuntimeError(f"order {result.order_id} ended {result.status}: {result.reason}")

        def working() -> Worker:
            return build_worker(client, settings, database, authorization)

        async with working():
            await each(urgent, WARM_UP)
            alone = await each(urgent, URGENT)
        left = iter(range(BURST))

        async def starting() -> None:
            for nth in left:
                await lastmile.start(_order("burst", nth))

        await asyncio.gather(*(starting() for _ in range(STARTING)))
        # Without a worker so far: a server that starts orders more slowly than a worker ends them would have no burst.
        async with working():
            await each(urgent, WARM_UP)
            beside = await each(urgent, URGENT)
        if not await _left(database):
            raise RuntimeError(
                "The burst was over before the urgent orders: the Temporal server does not follow priorities. Set "
                "matching.useNewMatcher in its dynamic configuration (docs/operations/orders.md)."
            )
    name = f"urgent order beside {BURST:,} of another tenant, median"
    return [Measurement(name, beside * 1000, "ms", "the same alone", alone * 1000, at_most(3.0))]


async def _left(database: Database) -> bool:
    """Return whether orders of the burst are still running or have not begun."""
    ended = "SELECT count(*) FROM orders WHERE tenant_id = 'burst' AND finished_at IS NOT NULL"
    async with database.platform() as platform:
        return (await platform.scalar(text(ended)) or 0) < BURST


def _order(tenant: str, number: int) -> ProvisionSubscriber:
    changes = {"tenant": tenant, "subscriber_ref": f"{tenant}-{number}", "order_id": f"{tenant}-{number}"}
    return provision_order(number).model_copy(update=changes)


async def _prepare(database: Database) -> None:
    async with database.platform() as platform:
        for tenant, space in (("urgent", "3fff:100::/40"), ("burst", "3fff:200::/40")):
            await add_tenant(platform, tenant, tenant)
            pool = Pool(name="home", prefix=space, purpose=Purpose.IPV6_PD, delegated_length=56, tenant=tenant)
            await add_pool(platform, pool)
