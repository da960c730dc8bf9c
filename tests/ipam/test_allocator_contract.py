"""The contract of `PrefixAllocator`, for each of its three implementations."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ipam.errors import (
    AllocationSpentError,
    DelegationMismatchError,
    NotRevokedError,
    PoolExhaustedError,
    UnknownPoolError,
)
from ipam.lifecycle import State
from lastmile.devstack.netbox import NetBoxServer
from lastmile.errors import OrderFencedError
from tests.support.allocator_cases import CASES, AllocatorCase, DatabaseCase
from tests.support.held_requests import HeldRequest


@pytest.fixture(params=CASES, ids=[case.__name__.removesuffix("Case").lower() for case in CASES])
async def case(
    request: pytest.FixtureRequest, owner_url: str, owner: asyncpg.Connection
) -> AsyncIterator[AllocatorCase]:
    """Each allocator, with its pool."""
    with NetBoxServer() as server:
        async with request.param.environment.serving(owner_url, owner, server) as env:
            case: AllocatorCase = request.param(env)
            await case.add_pool()
            yield case


async def fill(case: AllocatorCase) -> list[str]:
    """Allocate every prefix of the pool."""
    return [await case.provision(f"S-{n}", f"O-{n}") for n in range(4)]


async def test_allocate_same_order_twice_returns_same_prefix(case: AllocatorCase) -> None:
    await case.env.begin()
    first = await case.allocate()
    again = await case.allocate()
    assert (first.created, again.created) == (True, False)
    assert (again.delegation.id, again.delegation.prefix) == (first.delegation.id, first.delegation.prefix)
    assert first.delegation.state is State.ALLOCATED
    assert await case.agree() == [str(first.delegation.prefix)]


async def test_allocate_concurrent_attempts_of_one_order_return_one_prefix(case: AllocatorCase) -> None:
    await case.env.begin()
    allocations = await asyncio.gather(*(case.allocate_with_retries() for _ in range(6)))
    assert len({one.delegation.prefix for one in allocations}) == 1
    assert len(await case.agree()) == 1


async def test_allocate_concurrent_orders_return_distinct_prefixes(case: AllocatorCase) -> None:
    prefixes = await asyncio.gather(*(case.provision(f"S-{n}", f"O-{n}") for n in range(4)))
    assert len(set(prefixes)) == 4
    assert sorted(await case.agree()) == sorted(prefixes)


async def test_allocate_later_order_of_same_subscriber_returns_held_prefix(case: AllocatorCase) -> None:
    prefix = await case.provision("S-1", "O-1")
    await case.activate()
    await case.close()
    assert await case.provision("S-1", "O-2") == prefix
    assert await case.agree() == [prefix]


async def test_allocate_from_full_pool_raises_exhausted_and_names_pool(case: AllocatorCase) -> None:
    given = await fill(case)
    await case.env.begin("S-9", "O-9")
    with pytest.raises(PoolExhaustedError, match=r"^Cannot allocate a /56 from pool home \(2001:db8:4000::/54\): "):
        await case.allocate_with_retries("S-9", "O-9")
    await case.allocator.release(case.scope("S-9", "O-9", undo=True))
    assert sorted(await case.agree()) == sorted(given)


async def test_allocate_concurrent_orders_for_last_prefix_give_it_once(case: AllocatorCase) -> None:
    for n in range(3):
        await case.provision(f"S-{n}", f"O-{n}")
    both = (case.provision(f"S-{n}", f"O-{n}") for n in (8, 9))
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["PoolExhaustedError", "str"]


async def test_allocate_without_pool_raises_unknown_pool(case: AllocatorCase) -> None:
    await case.env.begin()
    with pytest.raises(UnknownPoolError, match="no ipv6_pd pool of /60s"):
        await case.allocate(ipv6_pd_size=60)


async def test_allocate_another_length_raises_mismatch(case: AllocatorCase) -> None:
    await case.provision("S-1", "O-1")
    with pytest.raises(DelegationMismatchError):
        await case.allocate(ipv6_pd_size=60)


async def test_release_puts_prefix_into_quarantine_until_that_ends(case: AllocatorCase) -> None:
    first, *_ = await fill(case)
    await case.close("S-0", "O-0")
    released = await case.deprovision("S-0", "D-0")
    assert [str(one.prefix) for one in released.delegations] == [first]
    assert list(released.problems) == []
    await case.env.begin("S-8", "O-8")
    with pytest.raises(PoolExhaustedError):
        await case.allocate_with_retries("S-8", "O-8")
    await case.allocator.release(case.scope("S-8", "O-8", undo=True))
    await case.end_quarantine()
    assert await case.provision("S-9", "O-9") == first


async def test_release_twice_changes_nothing(case: AllocatorCase) -> None:
    await case.provision("S-1", "O-1")
    await case.close()
    first = await case.deprovision()
    before = await case.env.owner.fetch("SELECT * FROM delegations")
    again = await case.allocator.release(case.scope("S-1", "D-1"))
    assert [one.id for one in again.delegations] == [one.id for one in first.delegations]
    assert list(again.problems) == []
    assert await case.env.owner.fetch("SELECT * FROM delegations") == before
    assert await case.agree() == []


async def test_release_of_active_delegation_is_refused(case: AllocatorCase) -> None:
    prefix = await case.provision("S-1", "O-1")
    assert await case.activate() == []
    await case.close()
    await case.env.begin("S-1", "D-1", "deprovision")
    with pytest.raises(NotRevokedError):
        await case.allocator.release(case.scope("S-1", "D-1"))
    assert await case.agree() == [prefix]


async def test_release_in_undo_frees_what_order_created_and_tolerates_repetition(case: AllocatorCase) -> None:
    await case.provision("S-1", "O-1")
    undo = case.scope(undo=True)
    assert len((await case.allocator.release(undo)).delegations) == 1
    await case.allocator.release(undo)
    assert await case.held() == []
    assert await case.agree() == []


async def test_release_in_undo_without_allocation_does_nothing(case: AllocatorCase) -> None:
    await case.env.begin()
    assert list((await case.allocator.release(case.scope(undo=True))).delegations) == []


async def test_release_in_undo_leaves_prefix_of_earlier_order(case: AllocatorCase) -> None:
    prefix = await case.provision("S-1", "O-1")
    await case.activate()
    await case.close()
    await case.provision("S-1", "O-2")
    assert list((await case.allocator.release(case.scope(order="O-2", undo=True))).delegations) == []
    assert await case.agree() == [prefix]


async def test_allocate_after_undo_is_fenced(case: AllocatorCase) -> None:
    await case.provision("S-1", "O-1")
    await case.allocator.release(case.scope(undo=True))
    with pytest.raises(OrderFencedError):
        await case.allocate()
    assert await case.agree() == []


async def test_allocate_after_takeover_is_fenced_and_successor_keeps_prefix(case: AllocatorCase) -> None:
    prefix = await case.provision("S-1", "O-1")
    await case.env.begin(order="O-2")
    with pytest.raises(OrderFencedError):
        await case.allocate()
    successor = await case.allocate(order="O-2")
    assert (str(successor.delegation.prefix), successor.delegation.created_by_order) == (prefix, "O-2")
    assert await case.agree() == [prefix]


async def test_allocate_with_key_that_was_released_raises_spent(case: AllocatorCase) -> None:
    await case.provision("S-1", "O-1")
    await case.close()
    await case.deprovision()
    await case.env.owner.execute("UPDATE orders SET status = 'running' WHERE order_id = 'O-1'")
    with pytest.raises(AllocationSpentError, match="send a new order"):
        await case.allocate()


async def test_activate_reports_no_problem_and_can_be_repeated(case: AllocatorCase) -> None:
    prefix = await case.provision("S-1", "O-1")
    assert await case.activate() == []
    assert await case.allocator.report(case.scope(), await case.held()) == []
    assert await case.agree() == [prefix]


async def test_allocate_waiting_for_netbox_holds_no_transaction(case: AllocatorCase) -> None:
    if isinstance(case, DatabaseCase):
        case.env.server.stop()
        await case.provision("S-1", "O-1")
        return
    await case.env.begin()
    request = HeldRequest(case.env.server)
    attempt = asyncio.create_task(case.allocate())
    await request.reached()
    in_transaction = await case.env.owner.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' AND state <> 'idle'"
    )
    request.resume()
    await attempt
    assert in_transaction == 0
