"""Pools with the same space in several VRFs: an order gets an address in the VRF that it names, and in no other."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from ipam.errors import DelegationMismatchError, UnknownPoolError
from lastmile.contract.addressing import Addressing
from tests.support.allocation_env import PD, AllocationEnv

RED, BLUE = (replace(PD, vrf=vrf) for vrf in ("red", "blue"))


@pytest.fixture
async def vrf_pools(env: AllocationEnv) -> AllocationEnv:
    """Two pools with the same space, in two VRFs."""
    for vrf in ("red", "blue"):
        await env.pool("2001:db8:1::/48", vrf, vrf=vrf)
    return env


async def test_allocate_without_vrf_passes_over_pools_in_vrfs(vrf_pools: AllocationEnv) -> None:
    others = "red is in VRF 'red', blue is in VRF 'blue'"
    with pytest.raises(
        UnknownPoolError, match=rf"no ipv6_pd pool of /56s in the default VRF: .*addressing\.vrf\): {others}"
    ):
        await vrf_pools.allocate("S-1")
    with pytest.raises(UnknownPoolError, match=r"in the default VRF, name 'red': .*: red is in VRF 'red'$"):
        await vrf_pools.allocate("S-1", need=replace(PD, pool="red"))
    await vrf_pools.pool("2001:db8:2::/48", "home")
    assert str((await vrf_pools.allocate("S-1")).delegation.prefix).startswith("2001:db8:2:")


async def test_allocate_in_two_vrfs_gives_the_same_prefix_once_in_each(vrf_pools: AllocationEnv) -> None:
    red, blue = await vrf_pools.allocate("S-1", need=RED), await vrf_pools.allocate("S-2", need=BLUE)
    assert (red.delegation.vrf, blue.delegation.vrf) == ("red", "blue")
    assert red.delegation.prefix == blue.delegation.prefix
    assert (await vrf_pools.allocate("S-3", need=RED)).delegation.prefix != red.delegation.prefix
    assert [one.vrf for one in await vrf_pools.held_by("S-2")] == ["blue"]


async def test_allocate_in_an_unknown_vrf_names_the_vrfs_there_are(vrf_pools: AllocationEnv) -> None:
    with pytest.raises(UnknownPoolError, match=r"in VRF 'green': .*red is in VRF 'red', blue is in VRF 'blue'$"):
        await vrf_pools.allocate("S-1", need=replace(PD, vrf="green"))


async def test_allocate_in_another_vrf_than_held_is_refused(vrf_pools: AllocationEnv) -> None:
    given = await vrf_pools.allocate("S-1", need=RED)
    with pytest.raises(
        DelegationMismatchError, match=r"S-1 holds .* in VRF 'red', not in VRF 'blue': order change_addressing"
    ):
        await vrf_pools.allocate("S-1", "o2", need=BLUE)
    assert (await vrf_pools.allocate("S-1", "o3", need=RED)).delegation == given.delegation


async def test_allocate_after_release_gives_the_same_prefix_in_the_same_vrf_only(vrf_pools: AllocationEnv) -> None:
    given = (await vrf_pools.allocate("S-1", need=RED)).delegation
    await vrf_pools.revoke_and_release(given)
    blue = await vrf_pools.allocate("S-1", "o2", need=BLUE)
    assert blue.delegation.pool_id != given.pool_id
    await vrf_pools.revoke_and_release(blue.delegation)
    again = await vrf_pools.allocate("S-1", "o3", need=RED)
    assert (again.delegation.prefix, again.delegation.pool_id) == (given.prefix, given.pool_id)


async def test_events_name_the_vrf_after_the_delegation_is_deleted(vrf_pools: AllocationEnv) -> None:
    await vrf_pools.revoke_and_release((await vrf_pools.allocate("S-1", need=BLUE)).delegation)
    await vrf_pools.owner.execute("DELETE FROM delegations")
    assert set(await vrf_pools.owner.fetch("SELECT vrf FROM delegation_events")) == {("blue",)}


def test_addressing_asks_for_all_addresses_in_one_vrf() -> None:
    asked = Addressing.model_validate({"ipv6_mode": "dual_stack", "ipv4_mode": "static", "vrf": "red"})
    assert [need.vrf for need in asked.needs()] == ["red", "red"]
    assert [need.vrf for need in Addressing().needs()] == [""]


def test_addressing_with_vrf_and_without_address_is_refused() -> None:
    with pytest.raises(ValidationError, match="vrf needs an address from a Lastmile pool"):
        Addressing.model_validate({"enable_ipv6": False, "ipv4_mode": "dynamic", "vrf": "red"})
