"""Allocation: which prefix a subscriber gets, and the refusals."""

import asyncio
from ipaddress import IPv4Address, IPv6Network

import pytest

from ipam.allocation import FRONTIER_BATCH, Allocation
from ipam.errors import (
    AddressTakenError,
    AllocationSpentError,
    DelegationBusyError,
    DelegationMismatchError,
    PoolExhaustedError,
    UnknownPoolError,
)
from ipam.lifecycle import State
from lastmile.contract.addressing import Need, Purpose
from tests.support.allocation_env import PD, AllocationEnv

V4 = Need(Purpose.IPV4, 32)
WAN = Need(Purpose.IPV6_ADDRESS, 128)


def address(written: str) -> Need:
    return Need(Purpose.IPV4, 32, address=IPv4Address(written))


def prefixes(allocations: list[Allocation]) -> set[str]:
    return {str(allocation.delegation.prefix) for allocation in allocations}


# The choice of the prefix


async def test_each_subscriber_gets_a_prefix_of_its_own_out_of_the_pool(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    given = [await env.allocate(f"S-{n}") for n in range(10)]
    assert len(prefixes(given)) == 10
    assert all(a.delegation.prefix in list(IPv6Network("2001:db8:1::/48").subnets(new_prefix=56)) for a in given)
    assert all(a.created and a.delegation.state is State.ALLOCATED for a in given)


async def test_concurrent_allocations_with_one_key_get_one_prefix(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    given = await asyncio.gather(*(env.allocate("S-1") for _ in range(16)))
    assert len(prefixes(given)) == 1
    assert sum(allocation.created for allocation in given) == 1
    assert await env.owner.fetchval("SELECT count(*) FROM delegations") == 1
    assert await env.owner.fetchval("SELECT count(delegation_id) FROM slots") == 1


async def test_allocate_concurrent_orders_of_one_subscriber_return_one_prefix(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    given = await asyncio.gather(*(env.allocate("S-1", f"o{n}") for n in range(8)))
    assert len(prefixes(given)) == 1
    assert sum(allocation.created for allocation in given) == 1


async def test_many_at_once_on_a_pool_that_is_too_small(env: AllocationEnv) -> None:
    """Each prefix is given once, and "exhausted" is said of none too few and none too many."""
    await env.pool("2001:db8:1::/53")
    answers = await asyncio.gather(*(env.allocate(f"S-{n}") for n in range(16)), return_exceptions=True)
    given = [answer for answer in answers if isinstance(answer, Allocation)]
    assert len(prefixes(given)) == len(given) == 8
    assert [type(answer) for answer in answers if not isinstance(answer, Allocation)] == [PoolExhaustedError] * 8


async def test_many_at_once_where_the_frontier_must_move(env: AllocationEnv) -> None:
    """The pool has rows for its used slots, and for at most one batch more for each concurrent allocation."""
    for n in range(10):
        await env.pool(f"2001:db8:{n}000::/40", f"pool-{n}")
        need = Need(Purpose.IPV6_PD, 56, pool=f"pool-{n}")
        given = await asyncio.gather(*(env.allocate(f"S-{n}-{i}", need=need) for i in range(32)))
        assert len(prefixes(given)) == 32
    frontier = await env.owner.fetchval("SELECT max(frontier) FROM pools")
    assert FRONTIER_BATCH <= frontier <= 16 * FRONTIER_BATCH


async def test_pool_grows_to_its_end(env: AllocationEnv) -> None:
    """510 addresses are two batches, the second not a whole one; two of them are static, ahead of the frontier."""
    await env.pool("198.51.100.0/23", "v4", purpose="ipv4", delegated_length=32)
    static = [await env.allocate(f"T-{n}", need=address(f"198.51.101.{n}")) for n in (1, 250)]
    at_once = asyncio.Semaphore(16)  # as many as have connections: who waits too long for one is refused

    async def one(n: int) -> Allocation:
        async with at_once:
            return await env.allocate(f"S-{n}", need=V4)

    given = await asyncio.gather(*map(one, range(508)))
    assert len(prefixes([*given, *static])) == 510
    with pytest.raises(PoolExhaustedError):
        await env.allocate("S-508", need=V4)


async def test_returning_subscriber_gets_its_prefix_in_quarantine(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    first = (await env.allocate("S-1")).delegation
    await env.revoke_and_release(first)
    back = await env.allocate("S-1", "o2")
    assert back.created
    assert back.delegation.prefix == first.prefix
    assert back.delegation.id != first.id, "history is never overwritten"


async def test_need_of_another_purpose_gets_another_delegation(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    await env.pool("198.51.100.0/29", "v4", purpose="ipv4", delegated_length=32)
    await env.allocate("S-1")
    await env.allocate("S-1", need=V4)
    assert {d.purpose for d in await env.held_by("S-1")} == {Purpose.IPV6_PD, Purpose.IPV4}


# Which pool


async def test_pool_of_the_tenant_is_preferred_to_a_shared_pool(env: AllocationEnv) -> None:
    await env.pool("2001:db8:f::/55", "shared", tenant=None)
    await env.pool("2001:db8:1::/55")
    await env.allocate("S-1", tenant="other")  # from here on the shared pool has slots at hand
    given = [str((await env.allocate(f"S-{n}")).delegation.prefix) for n in range(3)]
    assert given == ["2001:db8:1::/56", "2001:db8:1:100::/56", "2001:db8:f:100::/56"]
    with pytest.raises(PoolExhaustedError, match=r"home \(2001:db8:1::/55\), shared \(2001:db8:f::/55\)"):
        await env.allocate("S-4")


async def test_pool_of_another_tenant_is_not_used(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48", tenant="other")
    with pytest.raises(UnknownPoolError):
        await env.allocate("S-1")


async def test_hints_choose_the_pool(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48", "east", region="east")
    await env.pool("2001:db8:2::/48", "west", region="west")
    by_name = await env.allocate("S-1", need=Need(Purpose.IPV6_PD, 56, pool="west"))
    by_region = await env.allocate("S-2", need=Need(Purpose.IPV6_PD, 56, region="west"))
    assert prefixes([by_name, by_region]) == {"2001:db8:2::/56", "2001:db8:2:100::/56"}


async def test_length_selects_the_pool(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    await env.pool("2001:db8:100::/40", "business", delegated_length=48)
    given = await env.allocate("S-1", need=Need(Purpose.IPV6_PD, 48))
    assert prefixes([given]) == {"2001:db8:100::/48"}


# Prefixes that are never assigned


async def test_network_and_broadcast_address_are_nobodys(env: AllocationEnv) -> None:
    await env.pool("198.51.100.0/30", "v4", purpose="ipv4", delegated_length=32)
    given = [await env.allocate(f"S-{n}", need=V4) for n in range(2)]
    assert prefixes(given) == {"198.51.100.1/32", "198.51.100.2/32"}
    with pytest.raises(PoolExhaustedError):
        await env.allocate("S-2", need=V4)
    for reserved in ("198.51.100.0", "198.51.100.3"):
        with pytest.raises(AddressTakenError, match=f"{reserved} of pool v4 .* not a host address"):
            await env.allocate("S-3", need=address(reserved))


async def test_point_to_point_pool_assigns_both_addresses(env: AllocationEnv) -> None:
    """RFC 3021: a /31 has neither network nor broadcast address."""
    await env.pool("198.51.100.0/31", "v4", purpose="ipv4", delegated_length=32)
    given = [await env.allocate(f"S-{n}", need=V4) for n in range(2)]
    assert prefixes(given) == {"198.51.100.0/32", "198.51.100.1/32"}


async def test_anycast_address_is_not_assigned(env: AllocationEnv) -> None:
    """RFC 4291, 2.6.1: the first address of a subnet is its routers'."""
    await env.pool("2001:db8:1::/126", "wan", purpose="ipv6_address", delegated_length=128)
    given = [await env.allocate(f"S-{n}", need=WAN) for n in range(3)]
    assert prefixes(given) == {f"2001:db8:1::{n}/128" for n in (1, 2, 3)}
    with pytest.raises(PoolExhaustedError):
        await env.allocate("S-4", need=WAN)


# Static addresses


async def test_static_address_is_assigned_as_requested(env: AllocationEnv) -> None:
    await env.pool("198.51.100.0/24", "v4", purpose="ipv4", delegated_length=32)
    given = await env.allocate("S-1", need=address("198.51.100.77"))
    again = await env.allocate("S-1", need=address("198.51.100.77"))
    assert prefixes([given, again]) == {"198.51.100.77/32"}
    assert not again.created


async def test_static_address_in_use_is_refused(env: AllocationEnv) -> None:
    await env.pool("198.51.100.0/29", "v4", purpose="ipv4", delegated_length=32)
    await env.allocate("S-1", need=address("198.51.100.4"))
    with pytest.raises(AddressTakenError, match=r"198\.51\.100\.4 of pool v4 .*held by another subscriber"):
        await env.allocate("S-2", need=address("198.51.100.4"))
    others = [await env.allocate(f"T-{n}", need=V4) for n in range(5)]
    assert prefixes(others) == {f"198.51.100.{n}/32" for n in (1, 2, 3, 5, 6)}
    with pytest.raises(PoolExhaustedError):
        await env.allocate("T-6", need=V4)


async def test_concurrent_requests_for_one_static_address_succeed_once(env: AllocationEnv) -> None:
    await env.pool("198.51.100.0/24", "v4", purpose="ipv4", delegated_length=32)
    both = (env.allocate(ref, need=address("198.51.100.77")) for ref in ("S-1", "S-2"))
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["AddressTakenError", "Allocation"]


async def test_static_address_outside_every_pool_is_refused(env: AllocationEnv) -> None:
    await env.pool("198.51.100.0/24", "v4", purpose="ipv4", delegated_length=32)
    with pytest.raises(UnknownPoolError, match=r"no ipv4 pool of /32s containing 192\.0\.2\.1: add one"):
        await env.allocate("S-1", need=address("192.0.2.1"))


# Refusals


async def test_allocation_without_a_matching_pool_names_the_need(env: AllocationEnv) -> None:
    with pytest.raises(UnknownPoolError, match="no ipv6_pd pool of /60s, name 'lab', region 'north': add one"):
        await env.allocate("S-1", need=Need(Purpose.IPV6_PD, 60, pool="lab", region="north"))


async def test_another_size_is_refused_with_what_is_held(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    await env.pool("2001:db8:100::/40", "business", delegated_length=48)
    await env.allocate("S-1")
    with pytest.raises(DelegationMismatchError, match=r"S-1 holds 2001:db8:1::/56 \(ipv6_pd\), not a /48"):
        await env.allocate("S-1", "o2", Need(Purpose.IPV6_PD, 48))


async def test_another_address_is_refused_with_what_is_held(env: AllocationEnv) -> None:
    await env.pool("198.51.100.0/24", "v4", purpose="ipv4", delegated_length=32)
    await env.allocate("S-1", need=address("198.51.100.7"))
    with pytest.raises(DelegationMismatchError, match=r"S-1 holds 198\.51\.100\.7/32 \(ipv4\), not 198\.51\.100\.8"):
        await env.allocate("S-1", "o2", address("198.51.100.8"))


@pytest.mark.parametrize("order", ["o1", "o2"])
@pytest.mark.parametrize("state", [State.REVOKING, State.FAILED])
async def test_delegation_being_revoked_is_busy(env: AllocationEnv, order: str, state: State) -> None:
    await env.pool("2001:db8:1::/48")
    await env.move((await env.allocate("S-1")).delegation, state)
    with pytest.raises(DelegationBusyError, match=rf"S-1 holds 2001:db8:1::/56 .*{state}: finish"):
        await env.allocate("S-1", order)


@pytest.mark.parametrize("released", [False, True])
async def test_late_attempt_of_an_ended_order_is_refused(env: AllocationEnv, released: bool) -> None:
    await env.pool("2001:db8:1::/48")
    revoked = await env.revoke((await env.allocate("S-1")).delegation)
    if released:
        await env.release(revoked)
    with pytest.raises(AllocationSpentError, match=r"had 2001:db8:1::/56 for S-1 .* send a new order"):
        await env.allocate("S-1")
    assert await env.owner.fetchval("SELECT count(*) FROM delegations") == 1


async def test_while_a_revoked_prefix_is_not_released_the_subscriber_gets_another(env: AllocationEnv) -> None:
    await env.pool("2001:db8:1::/48")
    revoked = await env.revoke((await env.allocate("S-1")).delegation)
    assert (await env.allocate("S-1", "o2")).delegation.prefix != revoked.prefix
    assert len(await env.held_by("S-1")) == 2


async def test_refused_allocation_leaves_no_record(env: AllocationEnv) -> None:
    await env.pool("198.51.100.0/30", "v4", purpose="ipv4", delegated_length=32)
    with pytest.raises(AddressTakenError):
        await env.allocate("S-1", need=address("198.51.100.3"))
    assert await env.owner.fetchval("SELECT count(*) FROM slots") == 0


async def test_equal_allocation_keys_of_two_tenants_are_distinct(env: AllocationEnv) -> None:
    await env.pool("2001:db8:f::/48", "shared", tenant=None)
    given = [await env.allocate("S-1", need=PD, tenant=tenant) for tenant in ("acme", "other")]
    assert len(prefixes(given)) == 2
