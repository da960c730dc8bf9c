"""The workflow that changes a pool's mode: cancels, resumption, a killed worker, orders and maintenance beside it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import asyncpg
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter

from ipam.netbox.mode_change import preparation
from ipam.netbox.mode_change.closing import close, reopen
from ipam.netbox.reconcile.run import differences
from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.audit.invariants import INVARIANTS
from lastmile.client.errors import AlreadyRunningError
from lastmile.client.orders import Lastmile
from lastmile.client.pool_modes import PoolModeError, PoolModeRun, pool_mode_id
from lastmile.contract import ResultStatus
from lastmile.contract.addressing import Addressing, Purpose
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import DROPPED, Fault
from tests.netbox.changeable import BLOCKS, DATABASE, DIRECT, PREFIX, Changeable, Way
from tests.netbox.test_changing_moment import pool_as
from tests.support.direct_env import AVAILABLE, PREFIXES, VRF, refusal
from tests.support.faults import Faults, Gate
from tests.support.orders import Orders, retrying
from tests.support.processes import environment_of, started, until
from workflows.maintenance import pool_mode_change


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def kept(
    owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer, temporal_client: Client, faults: Faults
) -> AsyncIterator[Changeable]:
    client = Client(temporal_client.service_client, data_converter=pydantic_data_converter, interceptors=[faults])
    async with Changeable.serving(owner_url, owner, standin) as kept, kept.working(client):
        yield kept


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_mode_change, "ROUND", timedelta(milliseconds=50))
    monkeypatch.setattr(preparation, "PAUSE", timedelta(milliseconds=50))


async def is_closed(kept: Changeable) -> bool:
    return bool(await kept.owner.fetchval("SELECT lastmile_pool_is_changing(p) FROM pools p WHERE name = 'home'"))


async def cancelled(run: PoolModeRun) -> str:
    """Return how the pool is kept after the cancel, as the command says it."""
    with pytest.raises(PoolModeError) as said:
        await run.result()
    assert (await run.handle.describe()).status is WorkflowExecutionStatus.CANCELED
    return str(said.value)


@pytest.mark.parametrize(
    ("phase", "before", "after", "ends_as", "words"),
    [
        ("plan_pool_mode", DIRECT, PREFIX, DIRECT, "direct"),
        ("prepare_pool", DIRECT, PREFIX, DIRECT, "direct"),
        ("close_pool", DIRECT, PREFIX, DIRECT, "direct"),
        ("convert_pool", DIRECT, PREFIX, PREFIX, "delegated, with a record of each prefix"),
        ("close_pool", PREFIX, DIRECT, PREFIX, "delegated, with a record of each prefix"),
        ("convert_pool", PREFIX, DIRECT, DIRECT, "direct"),
        ("convert_pool", BLOCKS, DIRECT, PREFIX, "delegated, with a record of each prefix"),
    ],
)
async def test_a_cancel_leaves_the_pool_open_in_one_mode_and_names_it(
    kept: Changeable, faults: Faults, phase: str, before: Way, after: Way, ends_as: Way, words: str
) -> None:
    await kept.start(before)
    held = sorted(await kept.lines(3))
    gate = Gate()
    (faults.after if phase == "convert_pool" else faults.before)[phase] = gate
    run = await kept.request(await kept.the_home_pool(), kept.place(after))
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    said = await cancelled(run)
    assert said == f"The change was cancelled. The pool is {words}, and this change does not close it any more."
    assert not await is_closed(kept)
    await kept.an_hour_later()
    assert await kept.agree_as(ends_as) == held
    given = await kept.lines(1, start=50)
    await kept.change(after)
    assert await kept.agree_as(after) == sorted([*held, *given])


async def test_a_cancel_after_the_conversion_comes_too_late(kept: Changeable, faults: Faults) -> None:
    await kept.start(DIRECT)
    await kept.lines(3)
    gate = faults.before["return_blocks"] = Gate()
    run = await kept.request(await kept.the_home_pool(), kept.place(PREFIX))
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    assert (await run.result()).words == "done"
    assert len(await kept.agree_as(PREFIX)) == 3


async def test_a_cancel_while_an_order_is_waited_for_opens_the_pool(kept: Changeable) -> None:
    await kept.start(DIRECT)
    await kept.begin()
    kept.server.faults.next(DROPPED, method="POST", path=AVAILABLE)
    await refusal(kept.allocate())
    run = await kept.request(await kept.the_home_pool(), kept.place(BLOCKS))

    async def waits() -> bool:
        progress = await run.progress()
        return progress.closed and "waiting for the orders of S-1" in progress.words

    await until(waits)
    assert await is_closed(kept)
    await run.handle.cancel()
    assert "The pool is direct" in await cancelled(run)
    assert not await is_closed(kept)
    assert await kept.allocate_in_the_end()


async def test_the_same_change_again_follows_the_one_that_runs(kept: Changeable, faults: Faults) -> None:
    await kept.start(DIRECT)
    await kept.lines(2)
    gate = faults.before["prepare_pool"] = Gate()
    pool = await kept.the_home_pool()
    first = await kept.request(pool, kept.place(PREFIX))
    await gate.reached.wait()
    again = await kept.request(pool, kept.place(PREFIX))
    assert (first.attached, again.attached) == (False, True)
    with pytest.raises(AlreadyRunningError, match="Another change of pool home is running, as Temporal workflow"):
        await kept.request(pool, kept.place(BLOCKS))
    gate.open()
    assert (await first.result()) == (await again.result())
    assert len(await kept.agree_as(PREFIX)) == 2


async def test_maintenance_and_releases_work_in_a_pool_that_is_in_the_middle(kept: Changeable, faults: Faults) -> None:
    await kept.start(DIRECT)
    await kept.lines(3)
    gate = faults.before["convert_pool"] = Gate()
    run = await kept.request(await kept.the_home_pool(), kept.place(PREFIX))
    await gate.reached.wait()
    assert await is_closed(kept)
    whole = [invariant for invariant in INVARIANTS if invariant.name != "incomplete"]  # these lines have no more steps
    assert [one async for one in check(kept.database, invariants=whole)] == []
    assert [str(one) async for one in differences(kept.database, kept.netbox, everything=True)] == []
    assert await kept.beat()
    await kept.deprovision("S-1", "D-1")
    await kept.begin("S-9", "O-9")
    assert (await refusal(kept.allocate("S-9", "O-9"))).type == "PoolChangingError"
    gate.open()
    await run.result()
    await kept.allocate("S-9", "O-9")
    await kept.finish("S-9", "O-9")
    assert len(await kept.agree_as(PREFIX)) == 3


async def test_an_operators_closing_stays_after_a_change(kept: Changeable) -> None:
    await kept.start(DIRECT)
    await kept.lines(2)
    await kept.owner.execute("UPDATE pools SET closed_at = now()")
    await kept.change(PREFIX)
    assert await kept.owner.fetchval("SELECT closed_at IS NOT NULL AND netbox_closed_until IS NULL FROM pools")


async def test_an_order_waits_for_a_closed_pool_and_is_not_rolled_back(kept: Changeable) -> None:
    await kept.start(DIRECT)
    lastmile = Lastmile(kept.client, task_queue=kept.task_queue)
    pool = await pool_as(kept, DIRECT)
    await close(kept.database, pool)
    orders = Orders(f"S-{uuid.uuid4().hex[:12]}")
    run = await lastmile.start(orders.provision(addressing=Addressing(ipv6_pool="home", vrf=VRF)))
    failure = await retrying(run, "allocate_ip_address")
    assert failure.application_failure_info.type == "PoolChangingError"
    assert failure.message == (
        "pool home is closed while its NetBox mode changes (`lastmile pool set`): the order continues by itself when "
        "the pool is open again"
    )
    await reopen(kept.database, pool.id)
    assert (await run.result()).status is ResultStatus.COMPLETED


async def test_an_order_that_names_no_pool_is_served_from_another_pool(kept: Changeable) -> None:
    await kept.start(DIRECT)
    beside = {"name": "beside", "prefix": "2001:db8:5000::/40", "tenant": "acme", "vrf": VRF, "delegated_length": 56}
    async with kept.database.platform() as platform:
        await add_pool(platform, Pool.model_validate(beside | {"purpose": Purpose.IPV6_PD}))
    await kept.owner.execute("UPDATE pools SET netbox_closed_until = now() + interval '1 minute' WHERE name = 'home'")
    assert (await kept.provision()).startswith("2001:db8:5000:")


async def test_a_change_whose_worker_is_killed_continues_with_another_worker(
    kept: Changeable, tmp_path: Path, owner_url: str, temporal_address: str
) -> None:
    """The worker is killed while NetBox creates a block for it."""
    await kept.start(DATABASE)
    held = sorted(await kept.lines(3))
    queue = kept.task_queue = f"pool-mode-{uuid.uuid4().hex}"
    environment = await environment_of(tmp_path, owner_url, temporal_address, task_queue=queue)
    environment |= {"NETBOX_URL": kept.server.url, "NETBOX_TOKEN": kept.server.token}
    reached, release = Event(), Event()

    def hold() -> None:
        reached.set()
        release.wait()

    kept.server.faults.next(Fault(hold=hold), method="POST", path=PREFIXES)
    async with started(environment) as worker:
        run = await kept.request(await kept.the_home_pool(), kept.place(DIRECT))
        await asyncio.to_thread(reached.wait)
        worker.kill()
        await worker.wait()
    release.set()
    async with kept.worker():
        await run.result()
        assert run.handle.id == pool_mode_id(queue, await kept.owner.fetchval("SELECT id FROM pools"))
    await kept.in_the_end()
    assert await kept.agree_as(DIRECT) == held
