"""NetBox and a worker as it is run, as an operator meets them: what is done by the way, and a NetBox that goes away."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from temporalio.client import Client

from ipam.netbox.binding import ReportingScope
from ipam.netbox.records import KEY, USED
from lastmile.client.orders import Lastmile, OrderRun
from lastmile.contract import ProvisionSubscriber, ResultStatus
from lastmile.contract.addressing import Addressing
from lastmile.devstack.netbox import NetBoxServer
from tests.support.delegated_env import Delegated
from tests.support.direct_env import SPACE, VRF, Kept
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
    tmp_path: Path, owner_url: str, temporal_address: str, orders: Orders, standin: NetBoxServer
) -> Environment:
    worker = await environment_of(tmp_path, owner_url, temporal_address, task_queue=orders.ref)
    return worker | {"NETBOX_URL": standin.url, "NETBOX_TOKEN": standin.token}


@pytest.fixture
async def shared_out(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Delegated]:
    async with Delegated.serving(owner_url, owner, standin) as kept:
        await kept.pool(SPACE, "kept", block_length=54, record=ReportingScope.PREFIX)
        yield kept


@pytest.fixture
async def chosen(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Kept]:
    async with Kept.serving(owner_url, owner, standin) as kept:
        await kept.pool(SPACE, "kept")
        yield kept


def order(orders: Orders, nth: int) -> ProvisionSubscriber:
    return orders.provision(f"O-{nth}", nth, addressing=Addressing(ipv6_pool="kept", vrf=VRF))


def gone(orders: Orders, nth: int) -> Orders:
    return Orders(f"{orders.ref}-{nth}")


async def test_it_keeps_the_pools(
    environment: Environment, shared_out: Delegated, lastmile: Lastmile, orders: Orders
) -> None:
    """A block before anybody needs one, NetBox told of each prefix, and of how full the block is when it starts."""

    async def there() -> list[str]:
        return [one["prefix"] for one in shared_out.containers()]

    async def told() -> bool:
        return [one["custom_fields"][KEY] for one in shared_out.records()] == [
            f"acme/{orders.ref}-1/ipv6_pd/O-1"
        ] and shared_out.records()[0]["status"] == "active"

    async with started(environment) as worker:
        await until(there)
        result = await lastmile.execute(order(orders, 1))
        assert result.status is ResultStatus.COMPLETED
        assert {step.attempts for step in result.steps} == {1}
        await until(told)
        worker.terminate()
        await worker.wait()

    async def shown() -> bool:
        return [one["custom_fields"][USED] for one in shared_out.containers()] == [1]

    async with started(environment):
        await until(shown)
    # Whoever ends after NetBox has its record, and before it has noted that, leaves it to be looked at once more.
    await shared_out.alone()
    await shared_out.in_the_end()
    assert await shared_out.agree(whole_lines=True) == [result.created.ipv6_prefix]


async def all_retrying(runs: list[OrderRun], activity: str) -> None:
    failures = await asyncio.gather(*(retrying(run, activity) for run in runs))
    assert {"is it running, and is NETBOX_URL right?" in failure.message for failure in failures} == {True}


async def test_netbox_away_during_provisions_and_deprovisions_of_a_pool_that_it_chooses_from(
    environment: Environment, chosen: Kept, lastmile: Lastmile, orders: Orders
) -> None:
    async with started(environment):
        await healthy(port_of(environment))
        before = await asyncio.gather(*(lastmile.execute(order(orders, n)) for n in range(1, LINES + 1)))
        assert {result.status for result in before} == {ResultStatus.COMPLETED}

        chosen.server.stop()
        coming = [await lastmile.start(order(orders, n)) for n in range(LINES + 1, 2 * LINES + 1)]
        going = [await lastmile.start(gone(orders, n).deprovision(f"D-{n}")) for n in range(1, LINES + 1)]
        await all_retrying(coming, "allocate_ip_address")
        await all_retrying(going, "release_ip_address")
        assert await chosen.owner.fetchval("SELECT count(*) FROM radreply") == 0, "nobody's prefix waits to be revoked"
        chosen.server.start()

        results = await asyncio.gather(*(run.result() for run in [*coming, *going]))
    assert {result.status for result in results} == {ResultStatus.COMPLETED}
    held = [result.created.ipv6_prefix for result in results[:LINES]]
    assert sorted(await chosen.agree(whole_lines=True)) == sorted(map(str, held))


async def test_netbox_away_during_provisions_and_deprovisions_of_a_delegated_pool(
    environment: Environment, shared_out: Delegated, lastmile: Lastmile, orders: Orders
) -> None:
    """Only who needs a further block waits."""
    await shared_out.beat()
    shared_out.server.stop()
    async with started(environment):
        await healthy(port_of(environment))
        before = await asyncio.gather(*(lastmile.execute(order(orders, n)) for n in range(1, LINES + 1)))
        assert {result.status for result in before} == {ResultStatus.COMPLETED}
        late = await lastmile.start(order(orders, 99))
        await all_retrying([late], "allocate_ip_address")
        left = await asyncio.gather(*(lastmile.execute(gone(orders, n).deprovision(f"D-{n}")) for n in (1, 2)))
        assert {result.status for result in left} == {ResultStatus.COMPLETED}

        shared_out.server.start()
        assert (await late.result()).status is ResultStatus.COMPLETED
    await shared_out.alone()
    await shared_out.in_the_end()
    assert len(await shared_out.agree(whole_lines=True)) == LINES - 1
