"""Renumberings of the pool `home` to the pool `new`."""

from typing import Any

import asyncpg
from temporalio.client import Client

from ipam.pools import Pool, add_pool
from lastmile.client.operator_client import OperatorClient
from lastmile.client.orders import Lastmile
from lastmile.client.pool_renumbering import RenumberingRun, start_renumbering
from lastmile.contract import Decision
from lastmile.contract.addressing import Purpose
from lastmile.contract.pool_renumbering import PoolRenumbering
from lastmile.db import Database
from tests.support.orders import Orders

__all__ = ["TARGET", "WORD", "Renumberings"]

TARGET = Pool(name="new", prefix="2001:db8:300::/40", purpose=Purpose.IPV6_PD, delegated_length=56, tenant="acme")
WORD = Decision(by="noc-7", why="ticket 4711")


class Renumberings:
    """Lines of the closed pool `home`, and the renumberings to the pool `new` that a test starts."""

    def __init__(
        self,
        client: Client,
        task_queue: str,
        database: Database,
        owner: asyncpg.Connection | asyncpg.Pool,
        target: Pool = TARGET,
    ) -> None:
        self._target = target
        self._lastmile = Lastmile(client, task_queue=task_queue)
        self._operator = OperatorClient(client, task_queue)
        self._database = database
        self._owner = owner

    async def lines(self, orders: Orders, number: int) -> None:
        """Provision these lines; then close the pool `home`, and add the pool `new`."""
        for nth in range(1, number + 1):
            await self._lastmile.execute(orders.provision(f"O-{nth}", nth))
        async with self._database.platform() as platform:
            await add_pool(platform, self._target)
        await self._owner.execute(
            "UPDATE pools SET closed_at = now() WHERE name = 'home' AND tenant_id = $1", self._target.tenant
        )

    async def start(self, **changes: Any) -> RenumberingRun:
        """Start a renumbering at a rate that no test notices."""
        pool_id = await self._owner.fetchval(
            "SELECT id FROM pools WHERE name = 'home' AND tenant_id = $1", self._target.tenant
        )
        values = {
            "pool_id": pool_id,
            "pool": "home",
            "purpose": Purpose.IPV6_PD,
            "target": "new",
            "lines_per_hour": 360_000,
            "overlap_hours": 0,
            "failed_percent": 5,
            "requested_by": "noc-7",
        }
        return await start_renumbering(self._operator, PoolRenumbering(**(values | changes)))
