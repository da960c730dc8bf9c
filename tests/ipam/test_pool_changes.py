"""Pools that change while they are in use: exclusions, an end to new allocations, more space, the end of the pool."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Network, ip_network

import pytest
from pydantic import ValidationError

from ipam.errors import AddressTakenError, InvalidPoolError, PoolBusyError, PoolExhaustedError, UnknownPoolError
from ipam.pool_changes import close_pool, exclude, extend_pool, include, left_in, open_pool, remove_pool
from ipam.pools import Pool, PoolUse, list_pools
from lastmile.contract.addressing import Need, Purpose
from lastmile.db import PlatformConnection
from tests.support.allocation_env import QUARANTINE, AllocationEnv

V4 = Need(Purpose.IPV4, 32)
REST = timedelta(days=7)
WAITING = """SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
    WHERE NOT granted AND datname = current_database()"""


async def use_of(env: AllocationEnv, name: str = "home") -> PoolUse:
    async with env.database.platform() as platform:
        return next(use for use in await list_pools(platform) if use.pool.name == name)


async def excluding(env: AllocationEnv, *networks: str) -> Pool:
    pool = (await use_of(env)).pool
    async with env.database.platform() as platform:
        return await exclude(platform, pool, [ip_network(network) for network in networks])


async def including(env: AllocationEnv, *networks: str) -> Pool:
    pool = (await use_of(env)).pool
    async with env.database.platform() as platform:
        return await include(platform, pool, [ip_network(network) for network in networks], quarantine=REST)


async def extended(env: AllocationEnv, prefix: str) -> Pool:
    pool = (await use_of(env)).pool
    async with env.database.platform() as platform:
        return await extend_pool(platform, pool, ip_network(prefix), None)


async def ipv4_pool(env: AllocationEnv, prefix: str = "198.51.100.0/28", **more: object) -> None:
    await env.pool(prefix, purpose=Purpose.IPV4, delegated_length=32, **more)


async def all_that_is_given(env: AllocationEnv, need: Need = V4) -> list[str]:
    """Prefixes until the pool is exhausted."""
    given = []
    for n in range(1000):
        try:
            allocation = await env.allocate(f"S-{n}", need=need)
        except PoolExhaustedError:
            return given
        assert allocation.delegation.prefix is not None
        given.append(str(allocation.delegation.prefix.network_address))
    raise AssertionError("the pool has no end")


# Exclusions


async def test_excluded_prefixes_of_a_new_pool_are_not_assigned(env: AllocationEnv) -> None:
    await ipv4_pool(env, excluded=["198.51.100.1-198.51.100.5", "198.51.100.9"])
    use = await use_of(env)
    assert list(map(str, use.pool.excluded)) == [
        *("198.51.100.1/32", "198.51.100.2/31", "198.51.100.4/31", "198.51.100.9/32")
    ]
    assert (use.capacity, use.free) == (8, 8)
    assert await all_that_is_given(env) == [f"198.51.100.{n}" for n in (6, 7, 8, 10, 11, 12, 13, 14)]
    with pytest.raises(AddressTakenError, match="excluded"):
        await env.allocate("S-static", need=Need(Purpose.IPV4, 32, address=IPv4Address("198.51.100.3")))


async def test_exclusions_longer_than_a_batch_of_slots_are_passed_over(env: AllocationEnv) -> None:
    await env.pool("2001:db8::/40", excluded=["2001:db8::/44", "2001:db8:10:8000::/49"])
    first = await env.allocate("S-1")
    assert first.delegation.prefix == IPv6Network("2001:db8:10::/56")
    assert await env.owner.fetchval("SELECT count(*) FROM slots WHERE slot < 4096") == 0


async def test_pool_with_an_excluded_end_is_exhausted_before_it(env: AllocationEnv) -> None:
    await env.pool("2001:db8::/54", excluded=["2001:db8:0:200::/55"])
    await env.pool("2001:db8:1::/55", "next")
    given = await all_that_is_given(env, Need(Purpose.IPV6_PD, 56))
    assert given == ["2001:db8::", "2001:db8:0:100::", "2001:db8:1::", "2001:db8:1:100::"]


async def test_exclusion_keeps_the_holder_and_applies_after_release(env: AllocationEnv) -> None:
    await ipv4_pool(env, "198.51.100.0/29")
    held = (await env.allocate("S-held", need=V4)).delegation
    assert str(held.prefix) == "198.51.100.1/32"
    await excluding(env, "198.51.100.0/30")
    use = await use_of(env)
    assert (use.capacity, use.taken, use.free) == (4, 1, 3)

    assert await env.held_by("S-held") == [held]
    await env.revoke_and_release(held)
    await env.end_quarantines()
    assert await all_that_is_given(env) == [f"198.51.100.{n}" for n in (4, 5, 6)]


async def test_included_prefix_that_was_in_use_is_quarantined(env: AllocationEnv) -> None:
    await ipv4_pool(env, "198.51.100.0/29")
    await env.revoke_and_release((await env.allocate("S-gone", need=V4)).delegation)
    await excluding(env, "198.51.100.1", "198.51.100.2/31")
    assert (await use_of(env)).free == 3

    pool = await including(env, "198.51.100.1", "198.51.100.2")

    assert list(map(str, pool.excluded)) == ["198.51.100.3/32"]
    use = await use_of(env)
    assert (use.pool, use.capacity, use.quarantined, use.free) == (pool, 5, 1, 4)
    assert await all_that_is_given(env) == [f"198.51.100.{n}" for n in (2, 4, 5, 6)]
    assert await env.owner.fetchval("SELECT max(free_at) > now() + interval '6 days' FROM slots") is True


async def released_beside(env: AllocationEnv, change: Callable[[PlatformConnection, Pool], Awaitable[Pool]]) -> None:
    """Release 198.51.100.1 while a transaction changes the pool's exclusions."""
    held = await env.revoke((await env.allocate("S-held", need=V4)).delegation)
    pool = (await use_of(env)).pool
    async with env.database.platform() as platform:
        await change(platform, pool)
        release = asyncio.create_task(env.release(held))
        while not release.done() and not await env.owner.fetchval(WAITING):  # noqa: ASYNC110 -- PostgreSQL has no event for it
            await asyncio.sleep(0.01)
    await release
    await env.end_quarantines()


async def test_release_during_an_exclusion_withholds_the_prefix(env: AllocationEnv) -> None:
    await ipv4_pool(env, "198.51.100.0/29")
    await released_beside(env, lambda platform, pool: exclude(platform, pool, [ip_network("198.51.100.1")]))
    assert await all_that_is_given(env) == [f"198.51.100.{n}" for n in (2, 3, 4, 5, 6)]


async def test_release_during_an_inclusion_loses_no_prefix(env: AllocationEnv) -> None:
    await ipv4_pool(env, "198.51.100.0/29")
    await env.allocate("S-held", need=V4)
    await excluding(env, "198.51.100.1")
    await released_beside(env, lambda platform, pool: include(platform, pool, pool.excluded, quarantine=REST))
    assert "198.51.100.1" in await all_that_is_given(env)


async def test_exclusions_beside_allocations_at_work_give_nothing_excluded(env: AllocationEnv) -> None:
    await env.pool("2001:db8::/46")
    need = Need(Purpose.IPV6_PD, 56)
    await asyncio.gather(
        *(env.allocate(f"S-{n}", need=need) for n in range(40)), excluding(env, "2001:db8:0:1000::/52")
    )
    for n in range(40, 300):
        await env.allocate(f"S-{n}", need=need)
    wrong = await env.owner.fetchval(
        "SELECT count(*) FROM delegations, pools WHERE slot <@ excluded AND delegations.id > 40"
    )
    assert wrong == 0


@pytest.mark.parametrize(
    ("excluded", "words"),
    [
        (["203.0.113.1"], "203.0.113.1/32 is not in 198.51.100.0/28"),
        (["198.51.100.9-198.51.100.1"], "is not a range"),
        (["198.51.100.0/28"], "leave nothing of the pool"),
        (["gateway"], "does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_invalid_exclusion_is_refused(excluded: list[str], words: str) -> None:
    described = {"name": "x", "prefix": "198.51.100.0/28", "purpose": "ipv4", "delegated_length": 32}
    with pytest.raises(ValidationError, match=words):
        Pool.model_validate(described | {"excluded": excluded})


# Closed


async def test_closed_pool_assigns_nothing_and_accepts_releases(env: AllocationEnv) -> None:
    await env.pool("2001:db8::/48")
    held = (await env.allocate("S-1")).delegation
    pool = (await use_of(env)).pool
    async with env.database.platform() as platform:
        assert await close_pool(platform, pool) is True
        assert await close_pool(platform, pool) is False

    assert (await use_of(env)).closed_at is not None
    assert (await env.allocate("S-1")).delegation == held
    with pytest.raises(
        UnknownPoolError, match="pool home is closed to new allocations: open it with `lastmile pool open`"
    ):
        await env.allocate("S-2")
    await env.revoke_and_release(held)
    with pytest.raises(UnknownPoolError, match="closed"):  # nor to its last holder
        await env.allocate("S-1", "o2")
    await env.pool("2001:db8:1::/48", "next")
    assert (await env.allocate("S-2")).delegation.prefix == IPv6Network("2001:db8:1::/56")

    async with env.database.platform() as platform:
        assert await open_pool(platform, pool) is True
    assert (await env.allocate("S-1", "o2")).delegation.prefix == held.prefix


# Extended


async def test_extended_pool_keeps_its_slots(env: AllocationEnv) -> None:
    await ipv4_pool(env, "198.51.100.0/30")
    before = [(await env.allocate(ref, need=V4)).delegation for ref in ("S-a", "S-b")]

    pool = await extended(env, "198.51.100.0/29")

    assert (pool.slots, (await use_of(env)).pool) == (range(1, 7), pool)
    assert [one for ref in ("S-a", "S-b") for one in await env.held_by(ref)] == before
    assert await all_that_is_given(env) == [f"198.51.100.{n}" for n in (3, 4, 5, 6)]


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("2001:db8::/46", "begins before 2001:db8:1::/48"),
        ("2001:db8:1::/48", "or is the same"),
        ("2001:db8:2::/47", "does not contain"),
        ("2001:db8:1::/49", "does not contain"),
    ],
)
async def test_extension_that_renumbers_slots_is_refused(env: AllocationEnv, prefix: str, words: str) -> None:
    await env.pool("2001:db8:1::/48")
    with pytest.raises(InvalidPoolError, match=words):
        await extended(env, prefix)


@pytest.mark.parametrize("length", [31, 32])
async def test_extension_that_changes_the_network_address_is_refused(env: AllocationEnv, length: int) -> None:
    await ipv4_pool(env, f"198.51.100.0/{length}")
    with pytest.raises(InvalidPoolError, match=r"no host address in 198\.51\.100\.0/29"):
        await extended(env, "198.51.100.0/29")
    assert await all_that_is_given(env) == [f"198.51.100.{n}" for n in range(2 ** (32 - length))]


async def test_extension_over_another_pool_is_refused(env: AllocationEnv) -> None:
    await env.pool("2001:db8::/48")
    await env.pool("2001:db8:1::/48", "next")
    with pytest.raises(InvalidPoolError, match="2001:db8::/47 overlaps another pool"):
        await extended(env, "2001:db8::/47")


# Removed


async def test_pool_without_held_slots_is_removed(env: AllocationEnv) -> None:
    await env.pool("2001:db8::/48")
    held = (await env.allocate("S-1")).delegation
    pool = (await use_of(env)).pool

    async def removal() -> str:
        try:
            async with env.database.platform() as platform:
                await remove_pool(platform, pool, QUARANTINE)
        except PoolBusyError as failure:
            return str(failure)
        return ""

    assert "subscribers hold 1 prefix" in await removal()
    await env.revoke_and_release(held)
    assert "1 prefix is in quarantine until" in await removal()
    async with env.database.platform() as platform:
        left, holders = await left_in(platform, pool, QUARANTINE)
    assert (left.held, left.quarantined, left.nothing, holders) == (0, 1, False, [])
    await env.end_quarantines()
    assert await removal() == ""

    assert await env.owner.fetchval("SELECT count(*) FROM pools") == 0
    assert await env.owner.fetchval("SELECT count(*) FROM slots") == 0
    assert await env.owner.fetchval("SELECT count(*) FROM delegation_events") > 0, "who had the prefix is still known"
    assert "has been changed meanwhile" in await removal()


@pytest.mark.parametrize("released_first", [True, False])
@pytest.mark.parametrize(("confirmed", "hours"), [(True, 24), (False, 168)])
async def test_pool_with_an_excluded_quarantine_is_not_removed(
    env: AllocationEnv, released_first: bool, confirmed: bool, hours: int
) -> None:
    """Otherwise the same space in a new pool would assign the prefix to another subscriber."""
    await ipv4_pool(env)
    revoked = await env.revoke((await env.allocate("S-1", need=V4)).delegation, confirmed=confirmed)
    if released_first:
        await env.release(revoked)
    await excluding(env, "198.51.100.1")
    if not released_first:
        await env.release(revoked)
    pool = (await use_of(env)).pool

    async with env.database.platform() as platform:
        with pytest.raises(PoolBusyError, match="1 prefix is in quarantine until"):
            await remove_pool(platform, pool, QUARANTINE)
        left, _ = await left_in(platform, pool, QUARANTINE)
    released_at = await env.owner.fetchval("SELECT released_at FROM delegations")
    assert left.quarantined_until == released_at + timedelta(hours=hours)

    await env.owner.execute("UPDATE delegations SET released_at = released_at - $1::interval", timedelta(hours=hours))
    async with env.database.platform() as platform:
        await remove_pool(platform, pool, QUARANTINE)


async def test_pool_changed_since_it_was_read_is_not_changed(env: AllocationEnv) -> None:
    await env.pool("2001:db8::/48")
    old = (await use_of(env)).pool
    await extended(env, "2001:db8::/47")
    async with env.database.platform() as platform:
        with pytest.raises(PoolBusyError, match="has been changed meanwhile"):
            await exclude(platform, old, [IPv6Network("2001:db8::/56")])
