"""Start the runs that Schedules start, and create the records that they act on."""

from typing import Any

import asyncpg
from temporalio.client import WorkflowHandle

from ipam.delegations import held_by, transition
from ipam.lifecycle import State
from lastmile.client.orders import Lastmile
from lastmile.contract import AuditResult, Cleanup, CleanupResult
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from tests.support.orders import Orders

__all__ = ["AT_ONCE", "Maintenance", "ended", "held", "interrupt_revocation"]

AT_ONCE = Cleanup(revoked_days=90, allocated_hours=0, revoking_hours=0)
"""Limits that treat every allocated or revoking delegation as stale."""


class Maintenance:
    """The maintenance runs on the test's own task queue."""

    def __init__(self, lastmile: Lastmile, name: str) -> None:
        self._lastmile = lastmile
        self._name = name

    async def start(self, workflow: str, *content: Any, returns: type | None = None) -> WorkflowHandle[Any, Any]:
        return await self._lastmile.client.start_workflow(
            workflow,
            args=content,
            id=f"{self._name}/{workflow}",
            task_queue=self._name,
            result_type=returns,
        )

    async def cleanup(self, *wanted: Cleanup) -> CleanupResult:
        """Run the cleanup; by default with its usual limits."""
        run = await self.start("StalePrefixCleanup", *wanted, returns=CleanupResult)
        result: CleanupResult = await run.result()
        return result

    async def audit(self) -> AuditResult:
        run = await self.start("Audit", returns=AuditResult)
        result: AuditResult = await run.result()
        return result


_ENDED = """
WITH made AS (
    INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                             created_by_order, state, state_since, released_at)
    SELECT 'acme', p.id, n, lastmile_nth_prefix(p.prefix, 56, n), 'E-' || n, 'ipv6_pd', 'acme/E-' || n || '/ipv6_pd/E',
           'E', 'revoked', now() - $2 * interval '1 day', now() - $2 * interval '1 day'
    FROM pools p, generate_series(0, $1 - 1) n WHERE p.name = 'home' RETURNING *
)
INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref, from_state, to_state, order_id,
                               reason, at)
SELECT tenant_id, id, prefix, subscriber_ref, 'revoking', 'revoked', 'E', 'ordered', state_since FROM made
"""


async def ended(owner: asyncpg.Connection, number: int, days: float) -> None:
    """Insert `number` delegations that ended `days` ago."""
    await owner.execute(_ENDED, number, days)


async def interrupt_revocation(
    database: Database, orders: Orders, purpose: Purpose | None = None, nth: int = 0
) -> None:
    """Leave the delegations in REVOKING, like a deprovision whose run is lost during the disconnect."""
    async with database.tenant("acme") as connection:
        for delegation in await held_by(connection, f"{orders.ref}-{nth}" if nth else orders.ref):
            if purpose in (None, delegation.purpose):
                await transition(connection, delegation, State.REVOKING, order_id="O-9", reason="ordered")


async def held(owner: asyncpg.Connection) -> list[str]:
    return [row[0] for row in await owner.fetch("SELECT state FROM delegations WHERE released_at IS NULL ORDER BY id")]
