"""Lines in VRFs: the order names the VRF, and its result, RADIUS and the audit know it."""

import asyncpg
import pytest

from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.addressing import Addressing
from lastmile.db import Database
from lastmile.settings import Settings
from tests.support.faults import Faults, refused
from tests.support.orders import Orders, what_is_there

SPACE = {"prefix": "2001:db8:300::/40", "purpose": "ipv6_pd", "delegated_length": 52, "tenant": "acme"}
ATTRIBUTES = "SELECT username, attribute, value FROM radreply ORDER BY username, attribute"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"radius_vrf_attribute": "Cisco-AVPair=ip:vrf-id={vrf}"})


@pytest.fixture
async def vrf_pools(database: Database) -> None:
    """Add the only pools of /52s, with the same space in two VRFs."""
    async with database.platform() as platform:
        for vrf in ("red", "blue"):
            await add_pool(platform, Pool.model_validate(SPACE | {"name": vrf, "vrf": vrf}))


def asked(vrf: str | None) -> Addressing:
    return Addressing(ipv6_pd_size=52, vrf=vrf)


async def violations(database: Database, settings: Settings) -> list[str]:
    return [one.invariant.name async for one in check(database, vrf_attribute=settings.vrf_attribute)]


@pytest.mark.usefixtures("vrf_pools")
async def test_orders_without_vrf_are_refused_where_all_pools_are_in_vrfs(lastmile: Lastmile, orders: Orders) -> None:
    for nth in (1, 2):
        result = await lastmile.execute(orders.provision(f"O-{nth}", nth, addressing=asked(None)))
        assert result.status is ResultStatus.ROLLED_BACK
        assert "red is in VRF 'red', blue is in VRF 'blue'" in result.reason


@pytest.mark.usefixtures("vrf_pools")
async def test_lines_in_two_vrfs_share_a_prefix_and_radius_names_the_vrf(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, settings: Settings
) -> None:
    results = [
        await lastmile.execute(orders.provision(f"O-{nth}", nth, addressing=asked(vrf)))
        for nth, vrf in enumerate(("red", "blue"), start=1)
    ]
    assert [result.status for result in results] == ["completed", "completed"]
    assert [result.created.vrf for result in results] == ["red", "blue"]
    prefix = results[0].created.ipv6_prefix
    assert prefix == results[1].created.ipv6_prefix
    assert [tuple(row) for row in await owner.fetch(ATTRIBUTES)] == [
        (f"{orders.ref}-{nth}@acme.lastmile", *item)
        for nth, vrf in enumerate(("red", "blue"), start=1)
        for item in (("Cisco-AVPair", f"ip:vrf-id={vrf}"), ("Delegated-IPv6-Prefix", prefix))
    ]
    assert await violations(database, settings) == []

    first = Orders(f"{orders.ref}-1")
    given_back = await lastmile.execute(first.deprovision())
    assert (given_back.status, given_back.created.vrf) == ("completed", "red")
    assert {row["username"] for row in await owner.fetch(ATTRIBUTES)} == {f"{orders.ref}-2@acme.lastmile"}
    assert await violations(database, settings) == []


@pytest.mark.usefixtures("vrf_pools")
async def test_rolled_back_order_in_a_vrf_leaves_nothing(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    faults.before["create_billing_service"] = refused
    before = await what_is_there(owner)
    result = await lastmile.execute(orders.provision(addressing=asked("red")))
    assert result.status is ResultStatus.ROLLED_BACK
    after = await what_is_there(owner)
    assert after["radreply"] == before["radreply"] == []
    assert after["held delegations"] == []


@pytest.mark.usefixtures("vrf_pools")
async def test_undo_of_a_second_address_leaves_the_vrf_of_the_first(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, faults: Faults
) -> None:
    """The undo removes its own address from RADIUS; the line stays in its VRF."""
    async with database.platform() as platform:
        wan = {"name": "wan", "vrf": "red", "prefix": "192.0.2.0/28", "purpose": "ipv4", "delegated_length": 32}
        await add_pool(platform, Pool.model_validate(wan | {"tenant": "acme"}))
    assert (await lastmile.execute(orders.provision(addressing=asked("red")))).status is ResultStatus.COMPLETED
    before = [tuple(row) for row in await owner.fetch(ATTRIBUTES)]
    # An order adds addresses only to a line that is not in service.
    await owner.execute("UPDATE orders SET status = 'abandoned'")
    faults.before["create_billing_service"] = refused
    more = Addressing(ipv6_pd_size=52, vrf="red", ipv4_mode="static")
    result = await lastmile.execute(orders.provision("O-2", addressing=more))
    assert result.status is ResultStatus.ROLLED_BACK
    assert [tuple(row) for row in await owner.fetch(ATTRIBUTES)] == before
