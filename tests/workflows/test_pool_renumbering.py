"""The renumbering of a pool: every line once, at a rate and in a window, paused, stopped, lost and continued."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError

from lastmile.audit.audit import check
from lastmile.client.errors import AlreadyRunningError, NotRunningError, RenumberingStoppedError
from lastmile.client.orders import Lastmile
from lastmile.client.pool_renumbering import RenumberingRun
from lastmile.contract.pool_renumbering import RenumberingProgress, RenumberingStatus
from lastmile.db import Database
from lastmile.fields.daily_window import DailyWindow
from lastmile.settings import Settings
from tests.support.faults import Faults, Gate, alone, refused
from tests.support.orders import Orders
from tests.support.overlaps import short_overlaps
from tests.support.pool_renumberings import WORD, Renumberings
from workflows.maintenance import pool_renumbering, renumbering_orders


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK", "LONGEST_LOOK", "BUSY_PAUSE"):
        monkeypatch.setattr(pool_renumbering, name, timedelta(milliseconds=50))


@pytest.fixture
def renumberings(
    lastmile: Lastmile, client: Client, settings: Settings, database: Database, owner: asyncpg.Connection
) -> Renumberings:
    return Renumberings(client, settings.task_queue, database, owner)


async def prefixes(owner: asyncpg.Connection) -> dict[str, int]:
    """Return the number of held prefixes in each pool."""
    rows = await owner.fetch(
        "SELECT p.name, count(*) AS held FROM delegations d JOIN pools p ON p.id = d.pool_id"
        " WHERE d.released_at IS NULL GROUP BY p.name"
    )
    return {row["name"]: row["held"] for row in rows}


async def sent(owner: asyncpg.Connection) -> dict[str, list[str]]:
    """Return the ids of the renumber orders of each subscriber."""
    rows = await owner.fetch(
        "SELECT subscriber_ref, order_id FROM orders WHERE operation = 'renumber' ORDER BY order_id"
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["subscriber_ref"], []).append(row["order_id"])
    return found


async def until(run: RenumberingRun, reached: Callable[[RenumberingProgress], bool]) -> RenumberingProgress:
    """Wait until the progress is so; return it."""
    while True:
        try:
            progress = await run.progress()
        except RPCError:  # the worker was busy
            continue
        if reached(progress):
            return progress
        await asyncio.sleep(0.02)  # a query cannot be waited for


async def chain(client: Client, id_: str, run_id: str | None) -> list[WorkflowHandle[object, object]]:
    """Return the runs from the first one on."""
    runs = []
    while run_id:
        runs.append(client.get_workflow_handle(id_, run_id=run_id))
        *_, last = [event async for event in runs[-1].fetch_history_events()]
        run_id = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return runs


async def test_renumbering_gives_every_line_a_prefix_of_the_new_pool_once(
    renumberings: Renumberings,
    orders: Orders,
    owner: asyncpg.Connection,
    database: Database,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also over several runs: each begins where the one before has stopped."""
    monkeypatch.setattr(pool_renumbering, "STARTS_PER_RUN", 2)
    monkeypatch.setattr(renumbering_orders, "IN_FLIGHT", 2)
    await renumberings.lines(orders, 5)
    run = await renumberings.start()
    first = (await run.handle.describe()).run_id

    result = await run.result()

    assert (result.status, result.words) == (RenumberingStatus.ENDED, "no line is left")
    assert (result.renumbered, result.failed, result.in_flight, result.left) == (5, 0, 0, {})
    assert await prefixes(owner) == {"new": 5}
    assert [len(ids) for ids in (await sent(owner)).values()] == [1] * 5
    assert len(await chain(client, run.handle.id, first)) >= 2
    assert [found.invariant.name async for found in check(database)] == []
    assert await owner.fetchval("SELECT DISTINCT requested_by FROM orders WHERE operation = 'renumber'") == "noc-7"


async def test_second_renumbering_of_a_pool_is_refused_while_one_runs(
    renumberings: Renumberings, orders: Orders, owner: asyncpg.Connection
) -> None:
    await renumberings.lines(orders, 1)
    now = datetime.now(UTC)
    closed = DailyWindow(start=(now + timedelta(hours=2)).time(), end=(now + timedelta(hours=3)).time(), zone="UTC")
    run = await renumberings.start(window=closed)
    progress = await until(run, lambda progress: progress.waits_until is not None)
    assert (progress.status, progress.words) == (RenumberingStatus.WAITING, "waiting for the window")
    assert progress.waits_until is not None
    assert abs(progress.waits_until - now - timedelta(hours=2)) < timedelta(seconds=1)

    with pytest.raises(AlreadyRunningError, match="A renumbering of pool home is running"):
        await renumberings.start()

    assert await run.decide("stop", WORD) == "stopped by noc-7: ticket 4711"
    result = await run.result()
    assert result.status is RenumberingStatus.STOPPED
    assert (result.words, result.left) == (
        "stopped by noc-7: ticket 4711; orders that were started go on",
        {"to_renumber": 1},
    )
    assert await prefixes(owner) == {"home": 1}
    with pytest.raises(NotRunningError, match="No renumbering of pool home is running"):
        await run.decide("stop", WORD)


async def test_paused_renumbering_starts_no_order_until_it_is_resumed(
    renumberings: Renumberings, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await renumberings.lines(orders, 2)
    gate = faults.after["count_pool_lines"] = Gate()
    run = await renumberings.start()
    await gate.reached.wait()
    assert await run.decide("pause", WORD) == "paused by noc-7: ticket 4711"
    del faults.after["count_pool_lines"]
    gate.open()

    progress = await until(run, lambda progress: bool(progress.left))
    assert (progress.status, progress.words) == (RenumberingStatus.PAUSED, "paused by noc-7: ticket 4711")
    assert (list((await run.handle.describe()).raw_description.pending_activities), progress.in_flight) == ([], 0)
    assert faults.ran["find_lines_to_renumber"] == 0
    with pytest.raises(NotRunningError, match="is paused by noc-7: ticket 4711 already"):
        await run.decide("pause", WORD)
    assert await prefixes(owner) == {"home": 2}

    await run.decide("resume", WORD)
    assert (await run.result()).renumbered == 2
    assert await prefixes(owner) == {"new": 2}


async def test_renumbering_stops_when_too_many_fail_and_goes_on_when_started_again(
    renumberings: Renumberings,
    orders: Orders,
    owner: asyncpg.Connection,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(renumbering_orders, "IN_FLIGHT", 1)
    monkeypatch.setattr(renumbering_orders, "LEAST_FAILURES", 2)
    await renumberings.lines(orders, 3)
    faults.before["allocate_replacement"] = refused

    run = await renumberings.start()
    result = await run.result()

    assert (await run.handle.describe()).status is WorkflowExecutionStatus.FAILED
    assert (result.status, result.renumbered, result.failed) == (RenumberingStatus.STOPPED, 0, 2)
    assert result.words.startswith("2 of 2 renumberings have failed, more than 5 %.")
    assert "failed: allocate_replacement: refused by the test" in result.problems[0]
    assert await prefixes(owner) == {"home": 3}

    del faults.before["allocate_replacement"]
    assert (await (await renumberings.start()).result()).renumbered == 3
    assert await prefixes(owner) == {"new": 3}
    assert sorted(len(ids) for ids in (await sent(owner)).values()) == [1, 2, 2]


async def test_renumbering_names_the_lines_that_are_left_with_the_reason(
    renumberings: Renumberings, orders: Orders, owner: asyncpg.Connection, lastmile: Lastmile, faults: Faults
) -> None:
    await renumberings.lines(orders, 2)
    busy, failed = (f"{orders.ref}-{nth}" for nth in (1, 2))
    gate = Gate()
    faults.before[("O-9", "update_customer")] = alone(gate)
    other = await lastmile.start(orders.update_customer("O-9", subscriber_ref=busy))
    await gate.reached.wait()
    delegation = await owner.fetchval("SELECT id FROM delegations WHERE subscriber_ref = $1", failed)
    faults.before[(f"renumber-pool-{delegation}-1", "allocate_replacement")] = refused

    result = await (await renumberings.start()).result()

    assert result.status is RenumberingStatus.ENDED
    assert result.left == {"busy": 1, "failed": 1}
    assert result.words == "left: 1 with another order, 1 failed"
    assert result.problems == [
        f"acme, subscriber {failed}: failed: allocate_replacement: refused by the test",
        f"acme, subscriber {busy}: with another order",
    ]
    gate.open()
    await other.result()


async def test_suspended_line_is_renumbered_and_stays_suspended(
    renumberings: Renumberings, orders: Orders, owner: asyncpg.Connection, lastmile: Lastmile
) -> None:
    await renumberings.lines(orders, 1)
    await lastmile.execute(orders.suspend("O-8", subscriber_ref=f"{orders.ref}-1"))
    assert (await (await renumberings.start()).result()).left == {}
    assert await prefixes(owner) == {"new": 1}
    assert await owner.fetchval("SELECT state FROM delegations WHERE released_at IS NULL") == "suspended"


async def test_line_whose_order_ends_meanwhile_is_renumbered_in_a_later_pass(
    renumberings: Renumberings, orders: Orders, owner: asyncpg.Connection, lastmile: Lastmile, faults: Faults
) -> None:
    await renumberings.lines(orders, 1)
    gate = Gate()
    faults.before[("O-9", "update_customer")] = alone(gate)
    await lastmile.start(orders.update_customer("O-9", subscriber_ref=f"{orders.ref}-1"))
    await gate.reached.wait()
    run = await renumberings.start()
    await until(run, lambda progress: progress.words == "1 line has another order: trying again")
    gate.open()
    assert (await run.result()).left == {}
    assert await prefixes(owner) == {"new": 1}


async def test_renumbering_after_a_lost_one_sends_the_same_orders(
    renumberings: Renumberings, orders: Orders, owner: asyncpg.Connection, lastmile: Lastmile, faults: Faults
) -> None:
    """One order still runs, and the run of the other one was terminated with the renumbering."""
    await renumberings.lines(orders, 2)
    delegations = await owner.fetch("SELECT id FROM delegations ORDER BY id")
    gates = [Gate(), Gate()]
    for row, gate in zip(delegations, gates, strict=True):
        faults.before[(f"renumber-pool-{row['id']}-1", "allocate_replacement")] = alone(gate)
    run = await renumberings.start()
    for gate in gates:
        await gate.reached.wait()
    await run.handle.terminate("by the test")
    with pytest.raises(RenumberingStoppedError, match="Start it again: it goes on with the lines that are left"):
        await run.result()
    lost = lastmile.client.get_workflow_handle(f"subscriber/acme/{orders.ref}-2")
    await lost.terminate("by the test")
    faults.before.clear()

    again = await renumberings.start()
    await until(again, lambda progress: progress.renumbered == 1)
    for gate in gates:
        gate.open()

    result = await again.result()
    assert (result.renumbered, result.left) == (2, {})
    assert await prefixes(owner) == {"new": 2}
    assert [len(ids) for ids in (await sent(owner)).values()] == [1, 1]


async def test_renumbering_waits_for_the_end_of_the_overlaps(
    renumberings: Renumberings, orders: Orders, owner: asyncpg.Connection
) -> None:
    await renumberings.lines(orders, 1)
    async with short_overlaps(owner, seconds=2):
        run = await renumberings.start(overlap_hours=48)
        progress = await until(run, lambda progress: progress.waits_until is not None)
        assert (progress.renumbered, progress.left) == (1, {"in_overlap": 1})
        assert progress.words == "no line is left: waiting for the overlaps"
        assert (await run.result()).left == {}
    assert await prefixes(owner) == {"new": 1}


async def test_cancelled_renumbering_leaves_its_orders_running(
    renumberings: Renumberings, orders: Orders, owner: asyncpg.Connection, faults: Faults, lastmile: Lastmile
) -> None:
    await renumberings.lines(orders, 1)
    gate = Gate()
    faults.before["allocate_replacement"] = alone(gate)
    run = await renumberings.start()
    await gate.reached.wait()
    await run.handle.cancel()
    with pytest.raises(RenumberingStoppedError, match="Orders that were started go on"):
        await run.result()
    assert (await run.progress()).words == "cancelled; orders that were started go on"
    gate.open()
    await lastmile.client.get_workflow_handle(f"subscriber/acme/{orders.ref}-1").result()
    assert await prefixes(owner) == {"new": 1}
