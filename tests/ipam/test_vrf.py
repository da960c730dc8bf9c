"""Pools with the same space in several VRFs: an order gets an address in the VRF that it names, and in no other."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from ipam.errors import DelegationMismatchError, UnknownPoolError
from lastmile.contract.addressing import Addressing
from tests.support.allocation_desk import PD, Desk

RED, BLUE = (replace(PD, vrf=vrf) for vrf in ("red", "blue"))


@pytest.fixture
async def coloured(desk: Desk) -> Desk:
    """Two pools with the same space, in two VRFs."""
    for vrf in ("red", "blue"):
        await desk.pool("2001:db8:1::/48", vrf, vrf=vrf)
    return desk


async def test_allocate_without_vrf_passes_over_pools_in_vrfs(coloured: Desk) -> None:
    others = "red is in VRF 'red', blue is in VRF 'blue'"
    with pytest.raises(
        UnknownPoolError, match=rf"no ipv6_pd pool of /56s in the default VRF: .*addressing\.vrf\): {others}"
    ):
        await coloured.allocate("S-1")
    with pytest.raises(UnknownPoolError, match=r"in the default VRF, name 'red': .*: red is in VRF 'red'$"):
        await coloured.allocate("S-1", need=replace(PD, pool="red"))
    await coloured.pool("2001:db8:2::/48", "home")
    assert str((await coloured.allocate("S-1")).delegation.prefix).startswith("2001:db8:2:")


async def test_allocate_in_two_vrfs_gives_the_same_prefix_once_in_each(coloured: Desk) -> None:
    red, blue = await coloured.allocate("S-1", need=RED), await coloured.allocate("S-2", need=BLUE)
    assert (red.delegation.vrf, blue.delegation.vrf) == ("red", "blue")
    assert red.delegation.prefix == blue.delegation.prefix
    assert (await coloured.allocate("S-3", need=RED)).delegation.prefix != red.delegation.prefix
    assert [one.vrf for one in await coloured.held_by("S-2")] == ["blue"]


async def test_allocate_in_an_unknown_vrf_names_the_vrfs_there_are(coloured: Desk) -> None:
    with pytest.raises(UnknownPoolError, match=r"in VRF 'green': .*red is in VRF 'red', blue is in VRF 'blue'$"):
        await coloured.allocate("S-1", need=replace(PD, vrf="green"))


async def test_allocate_in_another_vrf_than_held_is_refused(coloured: Desk) -> None:
    given = await coloured.allocate("S-1", need=RED)
    with pytest.raises(DelegationMismatchError, match=r"S-1 holds .* in VRF 'red', not in VRF 'blue': deprovision it"):
        await coloured.allocate("S-1", "o2", need=BLUE)
    assert (await coloured.allocate("S-1", "o3", need=RED)).delegation == given.delegation


async def test_allocate_after_release_gives_the_same_prefix_in_the_same_vrf_only(coloured: Desk) -> None:
    given = (await coloured.allocate("S-1", need=RED)).delegation
    await coloured.give_back(given)
    blue = await coloured.allocate("S-1", "o2", need=BLUE)
    assert blue.delegation.pool_id != given.pool_id
    await coloured.give_back(blue.delegation)
    again = await coloured.allocate("S-1", "o3", need=RED)
    assert (again.delegation.prefix, again.delegation.pool_id) == (given.prefix, given.pool_id)


async def test_events_name_the_vrf_after_the_delegation_is_deleted(coloured: Desk) -> None:
    await coloured.give_back((await coloured.allocate("S-1", need=BLUE)).delegation)
    await coloured.owner.execute("DELETE FROM delegations")
    assert set(await coloured.owner.fetch("SELECT vrf FROM delegation_events")) == {("blue",)}


def test_addressing_asks_for_all_addresses_in_one_vrf() -> None:
    asked = Addressing.model_validate({"ipv6_mode": "dual_stack", "ipv4_mode": "static", "vrf": "red"})
    assert [need.vrf for need in asked.needs()] == ["red", "red"]
    assert [need.vrf for need in Addressing().needs()] == [""]


def test_addressing_with_vrf_and_without_address_is_refused() -> None:
    with pytest.raises(ValidationError, match="vrf needs an address from a Lastmile pool"):
        Addressing.model_validate({"enable_ipv6": False, "ipv4_mode": "dynamic", "vrf": "red"})
