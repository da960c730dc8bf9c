"""A cleanup that does not fit into one run continues in further runs."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from lastmile.client.orders import Lastmile
from lastmile.contract import CleanupResult
from lastmile.db import Database
from tests.support.maintenance import AT_ONCE, Maintenance, ended, held, interrupt_revocation
from tests.support.orders import Orders
from workflows.search_attributes import ATTENTION, OPERATION, STEP, TENANT

FEW_EVENTS = 15
"""The number of events after which this server suggests continue-as-new; the default is 4096."""


@pytest.fixture
async def temporal_client(temporal_program: Path) -> AsyncIterator[Client]:
    async with await WorkflowEnvironment.start_local(
        data_converter=pydantic_data_converter,
        search_attributes=[TENANT, OPERATION, STEP, ATTENTION],
        dev_server_existing_path=str(temporal_program),
        dev_server_startup_timeout=timedelta(seconds=60),
        dev_server_extra_args=["--dynamic-config-value", f"limit.historyCount.suggestContinueAsNew={FEW_EVENTS}"],
    ) as environment:
        yield environment.client


async def length(client: Client, first: WorkflowHandle[Any, Any]) -> int:
    """Return the number of runs in the chain."""
    number, run_id = 1, first.first_execution_run_id
    while True:
        run = client.get_workflow_handle(first.id, run_id=run_id)
        *_, last = [event async for event in run.fetch_history_events()]
        run_id = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        if not run_id:
            return number
        number += 1


async def test_long_cleanup_continues_as_new_and_counts_everything(
    lastmile: Lastmile, orders: Orders, maintenance: Maintenance, database: Database, owner: asyncpg.Connection
) -> None:
    for n in range(1, 5):
        await lastmile.execute(orders.provision(f"O-{n}", n))
        await interrupt_revocation(database, orders, nth=n)
    await ended(owner, 70, 91)

    first = await maintenance.start("StalePrefixCleanup", AT_ONCE, returns=CleanupResult)
    result: CleanupResult = await first.result()

    assert (result.revoking_stuck, result.revoking_completed, result.revoked_deleted) == (4, 4, 70)
    assert result.errors == 0
    assert await held(owner) == []
    assert await length(lastmile.client, first) >= 3
