"""The metrics of a pool's renumbering, from its run in Temporal: running, paused, stopped by itself, started again."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from lastmile.client.orders import Lastmile
from lastmile.db import Database
from lastmile.fields.daily_window import DailyWindow
from lastmile.metrics.snapshot import read_newest_snapshot
from lastmile.settings import Settings
from tests.metrics.snapshot_values import Values, values
from tests.support.faults import Faults, refused
from tests.support.orders import Orders
from tests.support.pool_renumberings import WORD, Renumberings
from workflows.maintenance import pool_renumbering, renumbering_orders

HOME = ("home", "acme")


class Shown:
    """The metrics that a snapshot of this moment shows."""

    def __init__(self, client: Client, settings: Settings, database: Database) -> None:
        self._client = client
        self._queue = settings.task_queue
        self._database = database

    async def until(self, reached: Callable[[Values, Values, Values], bool]) -> Values:
        """Take snapshots until one is so, and return its lines: Temporal's visibility is delayed."""
        while True:
            await self._client.execute_workflow("Metrics", id=f"metrics-{uuid.uuid4()}", task_queue=self._queue)
            found = await read_newest_snapshot(self._database)
            assert found is not None
            lines, paused, stopped = (
                values(found.snapshot, f"lastmile_pool_renumbering_{name}")
                for name in ("lines", "paused_seconds", "stopped")
            )
            if reached(lines, paused, stopped):
                return lines
            await asyncio.sleep(0.05)


@pytest.fixture
def shown(lastmile: Lastmile, client: Client, settings: Settings, database: Database) -> Shown:
    return Shown(client, settings, database)


@pytest.fixture
def renumberings(
    lastmile: Lastmile, client: Client, settings: Settings, database: Database, owner: asyncpg.Connection
) -> Renumberings:
    return Renumberings(client, settings.task_queue, database, owner)


def lines(**numbers: int) -> Values:
    """Return these numbers of lines by standing; no line where none is given."""
    standings = ("renumbered", "failed", "in_flight", "to_start")
    return {(*HOME, standing): numbers.get(standing, 0) for standing in standings}


async def test_snapshot_shows_a_renumbering_that_waits_or_is_paused_until_it_has_ended(
    renumberings: Renumberings, orders: Orders, shown: Shown
) -> None:
    await renumberings.lines(orders, 2)
    now = datetime.now(UTC)
    closed = DailyWindow(start=(now + timedelta(hours=2)).time(), end=(now + timedelta(hours=3)).time(), zone="UTC")
    run = await renumberings.start(window=closed, tenant="acme")
    found = await shown.until(lambda lines, paused, stopped: lines.get((*HOME, "to_start")) == 2)
    assert found == lines(to_start=2)

    await run.decide("pause", WORD)
    await shown.until(lambda lines, paused, stopped: paused[HOME] > 0 and stopped[HOME] == 0)
    await run.decide("resume", WORD)
    await shown.until(lambda lines, paused, stopped: paused[HOME] == 0)

    await run.decide("stop", WORD)
    await run.result()
    assert await shown.until(lambda lines, paused, stopped: not stopped) == {}


async def test_snapshot_shows_a_renumbering_that_has_stopped_by_itself_until_another_one_ends(
    renumberings: Renumberings, orders: Orders, shown: Shown, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_renumbering, "LOOK", timedelta(milliseconds=50))
    monkeypatch.setattr(renumbering_orders, "IN_FLIGHT", 1)
    monkeypatch.setattr(renumbering_orders, "LEAST_FAILURES", 2)
    await renumberings.lines(orders, 3)
    faults.before["allocate_replacement"] = refused
    run = await renumberings.start(tenant="acme")
    await run.result()
    assert (await run.handle.describe()).status is WorkflowExecutionStatus.FAILED

    assert await shown.until(lambda lines, paused, stopped: stopped.get(HOME) == 1) == lines(failed=2, to_start=1)

    del faults.before["allocate_replacement"]
    assert (await (await renumberings.start(tenant="acme")).result()).renumbered == 3
    assert await shown.until(lambda lines, paused, stopped: not stopped) == {}
