"""Orders that change the addresses of a line."""

import asyncio
from typing import Any

import asyncpg
import pytest
from pyrad.packet import DisconnectRequest

from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.addressing import Addressing, Purpose
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas
from tests.support.faults import Faults, refused
from tests.support.orders import Orders, log_in, outcomes, what_is_there
from tests.workflows.test_takeover import PATIENCE, lost

DUAL: dict[str, Any] = {"ipv6_mode": "dual_stack", "ipv4_mode": "static"}


async def in_radius(owner: asyncpg.Connection) -> dict[str, str]:
    return {row["attribute"]: row["value"] for row in await owner.fetch("SELECT attribute, value FROM radreply")}


async def held(owner: asyncpg.Connection) -> list[str]:
    return [
        row["prefix"]
        for row in await owner.fetch("SELECT prefix::text FROM delegations WHERE released_at IS NULL ORDER BY purpose")
    ]


@pytest.mark.parametrize(
    ("before", "after", "attributes"),
    [
        ({}, DUAL, {"Delegated-IPv6-Prefix": "2001:db8::/56", "Framed-IP-Address": "198.51.100.1"}),
        (DUAL, {"ipv6_mode": "pd"}, {"Delegated-IPv6-Prefix": "2001:db8::/56"}),
        ({}, {"ipv6_pd_size": 48}, {"Delegated-IPv6-Prefix": "2001:db8:100::/48"}),
        ({}, {"enable_ipv6": False}, {}),
        ({"enable_ipv6": False}, {}, {"Delegated-IPv6-Prefix": "2001:db8::/56"}),
        (
            DUAL | {"ipv4_address": "198.51.100.1"},
            DUAL | {"ipv4_address": "198.51.100.2"},
            {"Delegated-IPv6-Prefix": "2001:db8::/56", "Framed-IP-Address": "198.51.100.2"},
        ),
        ({}, {"ipv6_pd_size": 56}, {"Delegated-IPv6-Prefix": "2001:db8::/56"}),
        (DUAL, {"enable_ipv6": False, "ipv4_mode": "unchanged"}, {"Framed-IP-Address": "198.51.100.1"}),
        (
            {"enable_ipv6": False, "ipv4_mode": "static"},
            {"ipv6_mode": "pd", "ipv4_mode": "unchanged"},
            {"Delegated-IPv6-Prefix": "2001:db8::/56", "Framed-IP-Address": "198.51.100.1"},
        ),
        (
            DUAL,
            {"ipv6_mode": "unchanged", "ipv4_mode": "unchanged"},
            {"Delegated-IPv6-Prefix": "2001:db8::/56", "Framed-IP-Address": "198.51.100.1"},
        ),
    ],
    ids=[
        *("add IPv4", "remove IPv4", "other size", "remove IPv6", "add IPv6", "other IPv4", "no change"),
        *("remove IPv6, keep IPv4", "add IPv6, keep IPv4", "keep all"),
    ],
)
async def test_change_addressing_gives_exactly_what_the_order_asks_for(
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    database: Database,
    before: dict[str, Any],
    after: dict[str, Any],
    attributes: dict[str, str],
) -> None:
    await lastmile.execute(orders.provision(addressing=Addressing(**before)))

    result = await lastmile.execute(orders.change_addressing(**(after or {"ipv6_mode": "pd"})))

    assert result.status is ResultStatus.COMPLETED
    assert await in_radius(owner) == attributes
    created = {result.created.ipv6_prefix, result.created.ipv4_address} - {None}
    assert created == set(attributes.values())
    assert len(await held(owner)) == len(attributes)
    assert [found.invariant.name async for found in check(database)] == []


async def test_change_of_nothing_activates_what_an_order_only_allocated(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, faults: Faults
) -> None:
    faults.before["O-1", "activate_ipv6_lifecycle"] = refused
    degraded = await lastmile.execute(orders.provision())
    assert degraded.status is ResultStatus.DEGRADED
    assert await in_radius(owner) == {}

    result = await lastmile.execute(orders.change_addressing(ipv6_mode="unchanged", ipv4_mode="unchanged"))

    assert result.created.ipv6_prefix == degraded.created.ipv6_prefix
    assert await in_radius(owner) == {"Delegated-IPv6-Prefix": degraded.created.ipv6_prefix}
    assert [found.invariant.name async for found in check(database)] == []


async def test_change_and_its_opposite_leave_the_line_as_it_was(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    before = await what_is_there(owner)

    await lastmile.execute(orders.change_addressing("O-2", **DUAL))
    await lastmile.execute(orders.change_addressing("O-3", ipv6_mode="pd"))

    assert await what_is_there(owner) == before


async def test_same_prefix_in_another_vrf_stays_in_radius(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    blue = Pool(name="blue", prefix="2001:db8::/40", purpose=Purpose.IPV6_PD, delegated_length=56, vrf="blue")
    async with database.platform() as platform:
        await add_pool(platform, blue.model_copy(update={"tenant": "acme"}))
    await lastmile.execute(orders.provision())

    result = await lastmile.execute(orders.change_addressing(ipv6_mode="pd", vrf="blue"))

    assert (result.created.ipv6_prefix, result.created.vrf) == ("2001:db8::/56", "blue")
    assert await in_radius(owner) == {"Delegated-IPv6-Prefix": "2001:db8::/56"}
    assert [found.invariant.name async for found in check(database)] == []


async def test_change_that_fails_before_the_switch_leaves_the_old_addresses(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, faults: Faults
) -> None:
    await lastmile.execute(orders.provision(addressing=Addressing(**DUAL)))
    before = await what_is_there(owner)
    faults.after[("O-2", "allocate_ip_address")] = refused

    result = await lastmile.execute(orders.change_addressing(ipv6_pd_size=48))

    assert result.status is ResultStatus.ROLLED_BACK
    assert await what_is_there(owner) == before


@pytest.mark.parametrize(
    ("asked", "has"),
    [
        ({"enable_ipv6": False}, {}),
        ({"ipv6_mode": "pd"}, {"Delegated-IPv6-Prefix": "2001:db8:0:100::/56"}),
    ],
    ids=["remove IPv6", "the first size"],
)
async def test_change_takes_over_a_lost_change_to_another_addressing(
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    database: Database,
    faults: Faults,
    asked: dict[str, Any],
    has: dict[str, str],
) -> None:
    """The lost order has allocated a prefix, and announced it to no session."""
    await lastmile.execute(orders.provision())
    await lost(lastmile, orders.change_addressing(ipv6_pd_size=48), faults, "switch_addresses")

    async with asyncio.timeout(PATIENCE):
        result = await lastmile.execute(orders.change_addressing("O-3", **asked))

    assert result.status is ResultStatus.COMPLETED
    assert await in_radius(owner) == has
    assert await held(owner) == [*has.values()]
    assert [found.invariant.name async for found in check(database)] == []


async def test_session_is_ended_where_an_address_is_taken_away(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """A CoA-Request can give a prefix, and cannot take an address away."""
    await lastmile.execute(orders.provision(addressing=Addressing(**DUAL)))
    await log_in(owner, orders, "4F0C-01", nas)

    result = await lastmile.execute(orders.change_addressing(ipv6_mode="pd"))

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert (await nas.next_request()).code == DisconnectRequest
    assert outcomes(result)["revoke_replaced_addresses"] == "done"


async def test_provision_after_a_change_must_ask_for_the_changed_addresses(lastmile: Lastmile, orders: Orders) -> None:
    await lastmile.execute(orders.provision())
    changed = await lastmile.execute(orders.change_addressing(ipv6_pd_size=48))
    again = await lastmile.execute(orders.provision("O-3", addressing=Addressing(ipv6_pd_size=48)))
    assert again.created.ipv6_prefix == changed.created.ipv6_prefix


async def test_changed_addresses_of_a_suspended_line_are_suspended_until_its_resume(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database
) -> None:
    await lastmile.execute(orders.provision())
    await lastmile.execute(orders.suspend())

    result = await lastmile.execute(orders.change_addressing(**DUAL | {"ipv6_pd_size": 48}))

    assert result.status is ResultStatus.COMPLETED
    states = "SELECT array_agg(state) FROM delegations WHERE released_at IS NULL"
    assert await owner.fetchval(states) == ["suspended", "suspended"]
    assert await in_radius(owner) == {"Delegated-IPv6-Prefix": "2001:db8:100::/48", "Framed-IP-Address": "198.51.100.1"}
    assert [found.invariant.name async for found in check(database)] == []
    await lastmile.execute(orders.resume())
    assert await owner.fetchval(states) == ["active", "active"]
    assert [found.invariant.name async for found in check(database)] == []
