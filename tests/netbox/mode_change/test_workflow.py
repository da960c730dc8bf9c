"""The workflow that changes a pool's mode: cancellation, resumption, a killed worker, orders and maintenance."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import asyncpg
import pytest
from temporalio import activity
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
from lastmile.devstack.netbox.http.faults import DROPPED, Fault
from tests.netbox.mode_change.test_conversion_races import pool_as
from tests.support.direct_env import AVAILABLE, PREFIXES, VRF, refusal
from tests.support.faults import Faults, Gate
from tests.support.orders import Orders, retrying
from tests.support.pool_mode_env import BLOCKS, DATABASE, DIRECT, PREFIX, PoolModeEnv, Way
from tests.support.processes import environment_of, started, until
from workflows.maintenance import activity_call, pool_mode_change


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer, temporal_client: Client, faults: Faults
) -> AsyncIterator[PoolModeEnv]:
    client = Client(temporal_client.service_client, data_converter=pydantic_data_converter, interceptors=[faults])
    async with PoolModeEnv.serving(owner_url, owner, netbox_server) as env, env.working(client):
        yield env


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_mode_change, "ROUND", timedelta(milliseconds=50))
    monkeypatch.setattr(preparation, "PAUSE", timedelta(milliseconds=50))


async def is_closed(env: PoolModeEnv) -> bool:
    return bool(await env.owner.fetchval("SELECT lastmile_pool_is_changing(p) FROM pools p WHERE name = 'home'"))


async def cancelled(run: PoolModeRun) -> str:
    """Return the message of the cancelled change."""
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
async def test_cancelled_change_opens_the_pool_and_names_its_mode(
    env: PoolModeEnv, faults: Faults, phase: str, before: Way, after: Way, ends_as: Way, words: str
) -> None:
    await env.start(before)
    held = sorted(await env.lines(3))
    gate = Gate()
    (faults.after if phase == "convert_pool" else faults.before)[phase] = gate
    run = await env.request(await env.home_pool(), env.place(after))
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    said = await cancelled(run)
    assert said == f"The change was cancelled. The pool is {words}, and this change does not close it any more."
    assert not await is_closed(env)
    await env.pass_an_hour()
    assert await env.agree_as(ends_as) == held
    given = await env.lines(1, start=50)
    await env.change(after)
    assert await env.agree_as(after) == sorted([*held, *given])


async def until_cancelled() -> None:
    """Keep the activity alive until its worker hears of a cancel, in the answer to a heartbeat."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("told", [False, True], ids=["the activity is done first", "the activity is told"])
async def test_cancel_after_the_conversion_has_no_effect(
    env: PoolModeEnv, faults: Faults, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker asks whether it is cancelled by heartbeats, which it sends at four fifths of this.
    monkeypatch.setattr(activity_call, "HEARTBEAT", timedelta(seconds=3))
    await env.start(DIRECT)
    await env.lines(3)
    gate = Gate()

    async def at_return() -> None:
        gate.reached.set()
        await (until_cancelled() if told else gate())

    faults.before["return_blocks"] = at_return
    run = await env.request(await env.home_pool(), env.place(PREFIX))
    await gate.reached.wait()
    await run.handle.cancel()
    gate.open()
    assert (await run.result()).words == "done"
    assert len(await env.agree_as(PREFIX)) == 3


async def test_cancel_while_waiting_for_an_order_opens_the_pool(env: PoolModeEnv) -> None:
    await env.start(DIRECT)
    await env.begin()
    env.server.faults.next(DROPPED, method="POST", path=AVAILABLE)
    await refusal(env.allocate())
    run = await env.request(await env.home_pool(), env.place(BLOCKS))

    async def waits() -> bool:
        progress = await run.progress()
        return progress.closed and "waiting for the orders of S-1" in progress.words

    await until(waits)
    assert await is_closed(env)
    await run.handle.cancel()
    assert "The pool is direct" in await cancelled(run)
    assert not await is_closed(env)
    assert await env.allocate_with_retries()


async def test_repeated_change_attaches_to_the_running_one(env: PoolModeEnv, faults: Faults) -> None:
    await env.start(DIRECT)
    await env.lines(2)
    gate = faults.before["prepare_pool"] = Gate()
    pool = await env.home_pool()
    first = await env.request(pool, env.place(PREFIX))
    await gate.reached.wait()
    again = await env.request(pool, env.place(PREFIX))
    assert (first.attached, again.attached) == (False, True)
    with pytest.raises(AlreadyRunningError, match="Another change of pool home is running, as Temporal workflow"):
        await env.request(pool, env.place(BLOCKS))
    gate.open()
    assert (await first.result()) == (await again.result())
    assert len(await env.agree_as(PREFIX)) == 2


async def test_maintenance_and_releases_work_during_a_change(env: PoolModeEnv, faults: Faults) -> None:
    await env.start(DIRECT)
    await env.lines(3)
    gate = faults.before["convert_pool"] = Gate()
    run = await env.request(await env.home_pool(), env.place(PREFIX))
    await gate.reached.wait()
    assert await is_closed(env)
    whole = [invariant for invariant in INVARIANTS if invariant.name != "incomplete"]  # these lines have no more steps
    assert [one async for one in check(env.database, invariants=whole)] == []
    assert [str(one) async for one in differences(env.database, env.netbox, everything=True)] == []
    assert await env.maintain()
    await env.deprovision("S-1", "D-1")
    await env.begin("S-9", "O-9")
    assert (await refusal(env.allocate("S-9", "O-9"))).type == "PoolChangingError"
    gate.open()
    await run.result()
    await env.allocate("S-9", "O-9")
    await env.finish("S-9", "O-9")
    assert len(await env.agree_as(PREFIX)) == 3


async def test_pool_closed_by_an_operator_stays_closed_after_a_change(env: PoolModeEnv) -> None:
    await env.start(DIRECT)
    await env.lines(2)
    await env.owner.execute("UPDATE pools SET closed_at = now()")
    await env.change(PREFIX)
    assert await env.owner.fetchval("SELECT closed_at IS NOT NULL AND netbox_closed_until IS NULL FROM pools")


async def test_order_for_a_closed_pool_waits_until_it_opens(env: PoolModeEnv) -> None:
    await env.start(DIRECT)
    lastmile = Lastmile(env.client, task_queue=env.task_queue)
    pool = await pool_as(env, DIRECT)
    await close(env.database, pool)
    orders = Orders(f"S-{uuid.uuid4().hex[:12]}")
    run = await lastmile.start(orders.provision(addressing=Addressing(ipv6_pool="home", vrf=VRF)))
    failure = await retrying(run, "allocate_ip_address")
    assert failure.application_failure_info.type == "PoolChangingError"
    assert failure.message == (
        "pool home is closed while its NetBox mode changes (`lastmile pool set`): the order continues by itself when "
        "the pool is open again"
    )
    await reopen(env.database, pool.id)
    assert (await run.result()).status is ResultStatus.COMPLETED


async def test_order_without_a_pool_name_uses_another_pool(env: PoolModeEnv) -> None:
    await env.start(DIRECT)
    beside = {"name": "beside", "prefix": "2001:db8:5000::/40", "tenant": "acme", "vrf": VRF, "delegated_length": 56}
    async with env.database.platform() as platform:
        await add_pool(platform, Pool.model_validate(beside | {"purpose": Purpose.IPV6_PD}))
    await env.owner.execute("UPDATE pools SET netbox_closed_until = now() + interval '1 minute' WHERE name = 'home'")
    assert (await env.provision()).startswith("2001:db8:5000:")


async def test_change_of_a_killed_worker_continues_on_another_worker(
    env: PoolModeEnv, tmp_path: Path, owner_url: str, temporal_address: str
) -> None:
    """The worker is killed while NetBox creates a block for it."""
    await env.start(DATABASE)
    held = sorted(await env.lines(3))
    queue = env.task_queue = f"pool-mode-{uuid.uuid4().hex}"
    environment = await environment_of(tmp_path, owner_url, temporal_address, task_queue=queue)
    environment |= {"NETBOX_URL": env.server.url, "NETBOX_TOKEN": env.server.token}
    reached, release = Event(), Event()

    def hold() -> None:
        reached.set()
        release.wait()

    env.server.faults.next(Fault(hold=hold), method="POST", path=PREFIXES)
    # An activity beats every five seconds.
    soon = {f"{activity_call.__name__}.HEARTBEAT": timedelta(seconds=8)}
    async with started(environment, constants=soon) as worker:
        run = await env.request(await env.home_pool(), env.place(DIRECT))
        await asyncio.to_thread(reached.wait)
        worker.kill()
        await worker.wait()
    release.set()
    async with env.worker():
        await run.result()
        assert run.handle.id == pool_mode_id(queue, await env.owner.fetchval("SELECT id FROM pools"))
    await env.report_all()
    assert await env.agree_as(DIRECT) == held
