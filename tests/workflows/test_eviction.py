"""A worker evicts runs when its cache is full and when it stops: every undo still runs."""

import asyncio

import asyncpg
import pytest
from temporalio.client import Client

from lastmile.client.orders import Lastmile
from lastmile.contract import Decision, ResultStatus
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.faults import Faults, Gate, alone, refused
from tests.support.orders import Orders, parked, what_is_there
from workflows.saga import LATE_CANCEL

WORD = Decision(by="noc-7", why="ticket 4711")


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Limit the cache to the number of runs of the parameter."""
    return settings.model_copy(update={"max_cached_workflows": getattr(request, "param", 2000)})


small_cache = pytest.mark.parametrize("settings", [1, 2], ids=["room for one", "room for two"], indirect=True)


@small_cache
async def test_evicted_runs_roll_back(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    """Four runs evict each other: failed, cancelled, cancelled during the rollback, and parked."""
    nothing = await what_is_there(owner)
    faults.after["create_billing_service"] = refused
    cancelled, undoing = Gate(), Gate()
    # It waits in a regular activity: during a local activity a run is not evicted.
    faults.before["O-2", "configure_cpe"] = alone(cancelled)
    faults.before["O-3", "begin_rollback"] = undoing
    faults.before["O-4", "release_ip_address"] = refused
    runs = [await lastmile.start(orders.provision(f"O-{n}", n)) for n in (1, 2, 3, 4)]
    await asyncio.gather(cancelled.reached.wait(), undoing.reached.wait(), parked(runs[3]))
    for run in runs[1:]:
        await run.handle.cancel()
    cancelled.open()
    undoing.open()
    del faults.before["O-4", "release_ip_address"]
    await lastmile.decide("acme", f"{orders.ref}-4", "retry_step", WORD)

    results = await asyncio.gather(*(run.result() for run in runs))

    assert {result.status for result in results} == {ResultStatus.ROLLED_BACK}
    assert results[1].reason == "cancelled"
    assert await what_is_there(owner) == nothing


@small_cache
async def test_evicted_deprovision_goes_forward(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await lastmile.execute(orders.provision())
    gate = Gate()
    faults.before["archive_subscriber"] = alone(gate)
    run = await lastmile.start(orders.deprovision())
    await gate.reached.wait()
    await run.handle.cancel()
    await lastmile.execute(orders.provision("O-2", 1))
    gate.open()

    result = await run.result()

    assert (result.status, result.notes) == (ResultStatus.COMPLETED, [LATE_CANCEL])
    assert await owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL") == 1


async def test_parked_run_of_a_stopped_worker_continues_on_another(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    orders: Orders,
    owner: asyncpg.Connection,
    faults: Faults,
) -> None:
    nothing = await what_is_there(owner)
    lastmile = Lastmile(client, task_queue=settings.task_queue)
    faults.before["create_billing_service"] = faults.before["release_ip_address"] = refused
    async with build_worker(client, settings, database, authorization):
        run = await lastmile.start(orders.provision())
        await parked(run)
        await run.handle.cancel()
    faults.before.clear()

    async with build_worker(client, settings, database, authorization):
        await lastmile.decide("acme", orders.ref, "retry_step", WORD)
        result = await run.result()

    assert result.status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == nothing
