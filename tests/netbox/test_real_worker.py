"""A worker in a process of its own with NetBox: background maintenance, and orders while NetBox is unreachable."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from temporalio.client import Client

from ipam.modes import ReportingScope
from ipam.netbox.records import KEY, USED
from lastmile.client.orders import Lastmile, OrderRun
from lastmile.contract import ProvisionSubscriber, ResultStatus
from lastmile.contract.addressing import Addressing
from lastmile.devstack.netbox import NetBoxServer
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import SPACE, VRF, DirectEnv
from tests.support.orders import Orders, retrying
from tests.support.processes import Environment, environment_of, healthy, port_of, started, until

LINES = 4


@pytest.fixture
def orders() -> Orders:
    return Orders(f"S-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def lastmile(temporal_client: Client, orders: Orders) -> Lastmile:
    return Lastmile(temporal_client, task_queue=orders.ref)


@pytest.fixture
async def environment(
    tmp_path: Path, owner_url: str, temporal_address: str, orders: Orders, netbox_server: NetBoxServer
) -> Environment:
    worker = await environment_of(tmp_path, owner_url, temporal_address, task_queue=orders.ref)
    return worker | {"NETBOX_URL": netbox_server.url, "NETBOX_TOKEN": netbox_server.token}


@pytest.fixture
async def delegated_env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer
) -> AsyncIterator[DelegatedEnv]:
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        await env.pool(SPACE, "netbox", block_length=54, record=ReportingScope.PREFIX)
        yield env


@pytest.fixture
async def direct_env(
    owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer
) -> AsyncIterator[DirectEnv]:
    async with DirectEnv.serving(owner_url, owner, netbox_server) as env:
        await env.pool(SPACE, "netbox")
        yield env


def order(orders: Orders, nth: int) -> ProvisionSubscriber:
    return orders.provision(f"O-{nth}", nth, addressing=Addressing(ipv6_pool="netbox", vrf=VRF))


def gone(orders: Orders, nth: int) -> Orders:
    return Orders(f"{orders.ref}-{nth}")


async def test_worker_maintains_delegated_pools(
    environment: Environment, delegated_env: DelegatedEnv, lastmile: Lastmile, orders: Orders
) -> None:
    """It acquires a block ahead of need, reports each prefix, and reports the use of the block at its start."""

    async def there() -> list[str]:
        return [one["prefix"] for one in delegated_env.containers()]

    async def reported() -> bool:
        return [one["custom_fields"][KEY] for one in delegated_env.records()] == [
            f"acme/{orders.ref}-1/ipv6_pd/O-1"
        ] and delegated_env.records()[0]["status"] == "active"

    async with started(environment) as worker:
        await until(there)
        result = await lastmile.execute(order(orders, 1))
        assert result.status is ResultStatus.COMPLETED
        assert {step.attempts for step in result.steps} == {1}
        await until(reported)
        worker.terminate()
        await worker.wait()

    async def shown() -> bool:
        return [one["custom_fields"][USED] for one in delegated_env.containers()] == [1]

    async with started(environment):
        await until(shown)
    # A worker that stops between NetBox's reply and its note leaves the prefix due for another look.
    await delegated_env.wait_for_other_maintenance()
    await delegated_env.report_all()
    assert await delegated_env.agree(whole_lines=True) == [result.created.ipv6_prefix]


async def all_retrying(runs: list[OrderRun], activity: str) -> None:
    failures = await asyncio.gather(*(retrying(run, activity) for run in runs))
    assert {"is it running, and is NETBOX_URL right?" in failure.message for failure in failures} == {True}


async def test_orders_in_a_direct_pool_wait_for_an_unreachable_netbox(
    environment: Environment, direct_env: DirectEnv, lastmile: Lastmile, orders: Orders
) -> None:
    async with started(environment):
        await healthy(port_of(environment))
        before = await asyncio.gather(*(lastmile.execute(order(orders, n)) for n in range(1, LINES + 1)))
        assert {result.status for result in before} == {ResultStatus.COMPLETED}

        direct_env.server.stop()
        coming = [await lastmile.start(order(orders, n)) for n in range(LINES + 1, 2 * LINES + 1)]
        going = [await lastmile.start(gone(orders, n).deprovision(f"D-{n}")) for n in range(1, LINES + 1)]
        await all_retrying(coming, "allocate_ip_address")
        await all_retrying(going, "release_ip_address")
        assert await direct_env.owner.fetchval("SELECT count(*) FROM radreply") == 0, "no revocation waits for NetBox"
        direct_env.server.start()

        results = await asyncio.gather(*(run.result() for run in [*coming, *going]))
    assert {result.status for result in results} == {ResultStatus.COMPLETED}
    held = [result.created.ipv6_prefix for result in results[:LINES]]
    assert sorted(await direct_env.agree(whole_lines=True)) == sorted(map(str, held))


async def test_orders_in_a_delegated_pool_run_without_netbox(
    environment: Environment, delegated_env: DelegatedEnv, lastmile: Lastmile, orders: Orders
) -> None:
    """Only an order that needs a further block waits."""
    await delegated_env.maintain()
    delegated_env.server.stop()
    async with started(environment):
        await healthy(port_of(environment))
        before = await asyncio.gather(*(lastmile.execute(order(orders, n)) for n in range(1, LINES + 1)))
        assert {result.status for result in before} == {ResultStatus.COMPLETED}
        late = await lastmile.start(order(orders, 99))
        await all_retrying([late], "allocate_ip_address")
        left = await asyncio.gather(*(lastmile.execute(gone(orders, n).deprovision(f"D-{n}")) for n in (1, 2)))
        assert {result.status for result in left} == {ResultStatus.COMPLETED}

        delegated_env.server.start()
        assert (await late.result()).status is ResultStatus.COMPLETED
    await delegated_env.wait_for_other_maintenance()
    await delegated_env.report_all()
    assert len(await delegated_env.agree(whole_lines=True)) == LINES - 1
