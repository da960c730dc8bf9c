"""A subscriber's host gets its prefix from a real Kea, and loses it, as orders say."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from asyncpg.transaction import Transaction

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.lines import Line
from tests.support.dhcpv6 import LEASES, Dhcp6Host, network_namespaces, running_kea
from tests.support.orders import Orders

DUID = bytes.fromhex("00030001001a2b3c4d5e")

pytestmark = [pytest.mark.kea_required, pytest.mark.timeout(300)]


@pytest.fixture
async def customer(owner_url: str, database: object, tmp_path: Path) -> AsyncIterator[str]:
    """Run a Kea that serves the tenant acme; return the network namespace of a host on a link to it."""
    async with network_namespaces() as (isp, customer), running_kea(isp, tmp_path, owner_url, "acme"):
        yield customer


@pytest.fixture
def line() -> Line:
    return Line(connection_type="ftth", access="ipoe", username="port-7", duid=DUID.hex())


async def leases(owner: asyncpg.Connection) -> list[str]:
    rows = await owner.fetch(f"SELECT address || '/' || prefix_len AS prefix FROM {LEASES}.lease6")
    return [row["prefix"] for row in rows]


async def suspended(owner: asyncpg.Connection) -> Transaction:
    """Suspend the delegation in a transaction, and return the open transaction."""
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute("UPDATE delegations SET state = 'suspended'")
    return transaction


async def kea_waits(owner: asyncpg.Connection) -> None:
    """Wait until Kea has read a reservation, and waits to write its lease."""
    while True:
        if await owner.fetchval("SELECT 1 FROM pg_stat_activity WHERE usename = 'kea' AND wait_event_type = 'Lock'"):
            return
        await asyncio.sleep(0.02)  # a lock cannot be waited for


async def test_host_has_exactly_the_prefix_that_orders_give_it(
    customer: str, tmp_path: Path, lastmile: Lastmile, orders: Orders, line: Line, owner: asyncpg.Connection
) -> None:
    first = (await lastmile.execute(orders.provision(line=line))).created.ipv6_prefix
    assert first is not None
    async with Dhcp6Host.running(customer, tmp_path, DUID) as host:
        await host.numbered_from(first)
        assert (host.delegated(), await leases(owner)) == ([first], [first])

        await lastmile.execute(orders.suspend())
        assert await leases(owner) == []
        await host.without_prefix()

        await lastmile.execute(orders.resume())
        await host.numbered_from(first)

        second = (await lastmile.execute(orders.renumber("O-5"))).created.ipv6_prefix
        assert second is not None
        await host.numbered_from(second)
        assert (set(host.delegated()), await leases(owner)) == ({first, second}, [second])

        assert (await lastmile.execute(orders.deprovision())).status is ResultStatus.COMPLETED
        assert await leases(owner) == []
        await host.without_prefix()


async def test_host_gets_no_prefix_that_ends_while_kea_leases_it(
    customer: str, tmp_path: Path, lastmile: Lastmile, orders: Orders, line: Line, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision(line=line))
    suspension = await suspended(owner)
    async with Dhcp6Host.running(customer, tmp_path, DUID) as host:
        await kea_waits(owner)
        await suspension.commit()
        await host.refused()
        assert (await host.lan_addresses(), await leases(owner)) == (set(), [])

        prefix = await owner.fetchval("UPDATE delegations SET state = 'active' RETURNING prefix::text")
        await host.numbered_from(prefix)

        suspension = await suspended(owner)
        await kea_waits(owner)  # with the renewal of the lease
        await suspension.commit()
        await host.without_prefix()
        assert await leases(owner) == []
