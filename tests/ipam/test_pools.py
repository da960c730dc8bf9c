"""Pools: what can be one, which can stand side by side, how full they are, and which prefix is the n-th."""

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ipam.errors import InvalidPoolError
from ipam.pools import MAX_CAPACITY, Pool, PoolUse, add_pool, list_pools
from lastmile.contract.addressing import Purpose
from tests.support.allocation_env import AllocationEnv


async def uses(env: AllocationEnv) -> dict[str, PoolUse]:
    async with env.database.platform() as platform:
        return {use.pool.name: use for use in await list_pools(platform)}


# What can be one


@pytest.mark.parametrize(
    ("prefix", "purpose", "length", "complaint"),
    [
        ("198.51.100.0/24", "ipv6_pd", 56, "needs an IPv6 prefix, not 198.51.100.0/24"),
        ("2001:db8::/40", "ipv4", 32, "needs an IPv4 prefix"),
        ("2001:db8::/40", "ipv6_pd", 47, "ipv6_pd hands out /48 to /64, not /47"),
        ("2001:db8::/40", "ipv6_pd", 65, "ipv6_pd hands out /48 to /64, not /65"),
        ("2001:db8::/40", "ipv6_framed", 56, "ipv6_framed hands out /64, not /56"),
        ("2001:db8::/60", "ipv6_pd", 56, "2001:db8::/60 is smaller than the /56"),
        ("2001:db8::1/40", "ipv6_pd", 56, "2001:db8::1/40 has host bits set"),
        ("2001:db8::/4x", "ipv6_pd", 56, "does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_invalid_pool_is_refused_with_a_reason(prefix: str, purpose: str, length: int, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Pool.model_validate({"name": "x", "prefix": prefix, "purpose": purpose, "delegated_length": length})


@pytest.mark.parametrize(
    ("prefix", "purpose", "length", "slots"),
    [
        ("2001:db8::/48", "ipv6_pd", 56, range(256)),
        ("2001:db8::/56", "ipv6_pd", 56, range(1)),
        ("2001:db8::/126", "ipv6_address", 128, range(1, 4)),
        ("2001:db8::1/128", "ipv6_address", 128, range(1)),
        ("2001:db8::/64", "ipv6_address", 128, range(1, MAX_CAPACITY)),
        ("198.51.100.0/24", "ipv4", 32, range(1, 255)),
        ("198.51.100.0/31", "ipv4", 32, range(2)),
        ("198.51.100.7/32", "ipv4", 32, range(1)),
    ],
)
def test_slots_of_a_pool_omit_reserved_addresses(prefix: str, purpose: str, length: int, slots: range) -> None:
    pool = Pool.model_validate({"name": "x", "prefix": prefix, "purpose": purpose, "delegated_length": length})
    assert pool.slots == slots


# Side by side


async def test_repeated_add_of_a_pool_changes_nothing(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48", region="east", country="SE")
    await env.allocate("S-1")
    before = await env.owner.fetch("SELECT * FROM pools")
    await env.pool("2001:db8:1::/48", region="east", country="SE")
    assert await env.owner.fetch("SELECT * FROM pools") == before


async def test_pool_name_is_unique_within_a_tenant(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    with pytest.raises(InvalidPoolError, match="a pool named 'home' exists already, with other properties"):
        await env.pool("2001:db8:2::/48")
    await env.pool("2001:db8:3::/48", tenant="other")
    await env.pool("2001:db8:4::/48", tenant=None)
    with pytest.raises(InvalidPoolError, match="a pool named 'home'"):
        await env.pool("2001:db8:5::/48", tenant=None)


@pytest.mark.parametrize("prefix", ["2001:db8:1::/48", "2001:db8:1:8000::/49", "2001:db8::/40"])
async def test_overlapping_pools_are_refused_in_one_vrf_and_allowed_in_two(env: AllocationEnv, prefix: str) -> None:
    await env.pool("2001:db8:1::/48")
    with pytest.raises(InvalidPoolError, match=f"{prefix} overlaps a pool that exists in the default VRF"):
        await env.pool(prefix, "second", tenant="other")
    await env.pool(prefix, "second", vrf="customer-7")
    with pytest.raises(InvalidPoolError, match="overlaps a pool that exists in VRF 'customer-7'"):
        await env.pool(prefix, "third", vrf="customer-7")


async def test_pool_of_an_unknown_tenant_is_refused(env: AllocationEnv) -> None:
    with pytest.raises(InvalidPoolError, match="tenant 'nobody' does not exist: add it with `lastmile tenant add`"):
        await env.pool("2001:db8:1::/48", tenant="nobody")


async def test_refused_pool_keeps_the_transaction_usable(env: AllocationEnv) -> None:
    """A list of pools is added in one transaction, and each complaint is heard."""
    pool = Pool(name="home", prefix="2001:db8:1::/48", purpose=Purpose.IPV6_PD, delegated_length=56)
    async with env.database.platform() as platform:
        with pytest.raises(InvalidPoolError):
            await add_pool(platform, pool.model_copy(update={"tenant": "nobody"}))
        await add_pool(platform, pool)
    assert list(await uses(env)) == ["home"]


# How full


async def test_use_is_counted_in_slots(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    await env.pool("2001:db8:2::/64", "wan", purpose="ipv6_address", delegated_length=128)
    given = [(await env.allocate(f"S-{n}")).delegation for n in range(5)]
    await env.revoke_and_release(given[0])
    home, wan = (await uses(env))["home"], (await uses(env))["wan"]
    assert (home.capacity, home.taken, home.quarantined, home.free) == (256, 4, 1, 251)
    assert (wan.capacity, wan.free) == (2**62 - 1, 2**62 - 1)
    await env.end_quarantines()
    assert (await uses(env))["home"].quarantined == 0


async def test_shared_pool_serves_two_tenants(env: AllocationEnv) -> None:
    await env.pool("2001:db8:f::/55", "shared", tenant=None)
    given = {str((await env.allocate("S-1", tenant=tenant)).delegation.prefix) for tenant in ("acme", "other")}
    assert given == {"2001:db8:f::/56", "2001:db8:f:100::/56"}
    assert (await uses(env))["shared"].free == 0


# The n-th prefix


@st.composite
def nth_prefixes(draw: st.DrawFn) -> tuple[IPv4Network | IPv6Network, int, int]:
    """A pool's prefix, a length, and a slot of it, anywhere in the address space."""
    bits, lengths = draw(st.sampled_from([(32, [32]), (128, [*range(48, 65), 128])]))
    length = draw(st.sampled_from(lengths))
    masklen = draw(st.integers(min_value=1, max_value=length))
    network = draw(st.integers(min_value=0, max_value=2**masklen - 1)) << (bits - masklen)
    pool = (IPv4Network if bits == 32 else IPv6Network)((network, masklen))
    size = min(MAX_CAPACITY, 2 ** (length - masklen))
    return pool, length, draw(st.integers(0, size - 1) | st.just(size - 1))


async def test_nth_prefix_equals_the_arithmetic_result(env: AllocationEnv) -> None:
    """Against Python's own: many drawn first, then asked for in one go."""
    drawn: list[tuple[IPv4Network | IPv6Network, int, int]] = []

    @settings(max_examples=500, deadline=None, database=None)
    @given(nth_prefixes())
    def draw(case: tuple[IPv4Network | IPv6Network, int, int]) -> None:
        drawn.append(case)

    draw()
    rows = await env.owner.fetch(
        """
        SELECT lastmile_nth_prefix(p, l, s) AS prefix, CASE WHEN family(p) = 6 AND l <= 64
                   THEN lastmile_slot(p, l, lastmile_nth_prefix(p, l, s)) ELSE s END AS back
        FROM unnest($1::cidr[], $2::int[], $3::bigint[]) AS t(p, l, s)
        """,
        *zip(*drawn, strict=True),
    )
    for (pool, length, slot), row in zip(drawn, rows, strict=True):
        nth = int(pool.network_address) + (slot << (pool.max_prefixlen - length))
        assert row["prefix"] == type(pool)((nth, length)), (pool, length, slot)
        assert ip_network(row["prefix"]).subnet_of(pool)  # type: ignore[arg-type]
        assert row["back"] == slot
