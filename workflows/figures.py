"""What Temporal knows for a snapshot of the figures: runs that wait for a person."""

import asyncio
from collections.abc import Sequence

from temporalio.client import Client

from telemetry.snapshot import Sample, Snapshot
from workflows.attributes import ATTENTION, TENANT

__all__ = ["temporal_figures"]

# A run that was terminated while it waited keeps the attribute.
WAITING = f"{ATTENTION.name} = true AND ExecutionStatus = 'Running'"
AT_ONCE = 8


async def temporal_figures(client: Client, tenants: Sequence[str], before: Snapshot | None) -> list[Sample]:
    """Of these tenants. Raises `RPCError`."""
    return await _attention(client, tenants)


async def _attention(client: Client, tenants: Sequence[str]) -> list[Sample]:
    """By tenant; in one query where nothing waits, as nearly always: Temporal groups by nothing but the status."""
    turn = asyncio.Semaphore(AT_ONCE)
    total = (await client.count_workflows(WAITING)).count

    async def waiting(tenant: str) -> Sample:
        async with turn:
            query = f"{WAITING} AND {TENANT.name} = '{tenant}'"
            number = (await client.count_workflows(query)).count if total else 0
        return Sample("lastmile_attention_runs", {"tenant": tenant}, number)

    return list(await asyncio.gather(*map(waiting, tenants)))
