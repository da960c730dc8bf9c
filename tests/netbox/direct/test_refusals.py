"""Allocations that NetBox refuses, and failures that no retry fixes."""

import asyncio

import pytest
from temporalio.exceptions import ApplicationError

from ipam.errors import InvalidPoolError
from ipam.modes import OnRelease
from ipam.netbox import NetBox
from lastmile.audit.audit import check
from lastmile.contract.results import StepOutcome
from lastmile.devstack.netbox.http.faults import LOST
from tests.support.direct_env import AVAILABLE, PREFIXES, SPACE, DirectEnv, refusal


async def test_allocation_from_a_full_pool_is_refused(env: DirectEnv) -> None:
    await env.pool("2001:db8:4000::/55")
    first = await env.provision("S-1", "O-1")
    second = await env.provision("S-2", "O-2")
    await env.begin("S-3", "O-3")
    failure = await refusal(env.allocate("S-3", "O-3"))
    assert (failure.type, failure.non_retryable) == ("PoolExhaustedError", True)
    assert failure.message.startswith(
        "Cannot allocate a /56 from pool home (2001:db8:4000::/55): NetBox has no free prefix left in it"
    )
    assert await env.states() == ["active", "active", "failed"]
    assert (await refusal(env.allocate("S-3", "O-3"))).type == "PoolExhaustedError", (
        "again, if the first reply was lost"
    )
    await env.undo("S-3", "O-3")
    await env.close("S-3", "O-3", "rolled_back")
    assert await env.agree() == [first, second]

    await env.deprovision("S-1", "D-1")
    await env.begin("S-4", "O-4")
    assert (await refusal(env.allocate("S-4", "O-4"))).type == "PoolExhaustedError", "in quarantine"
    await env.undo("S-4", "O-4")
    await env.close("S-4", "O-4", "rolled_back")
    await env.owner.execute("UPDATE netbox_removals SET due_at = now()")
    assert await env.provision("S-5", "O-5") == first, "the quarantine is over, so the allocation removes the record"
    assert len(await env.agree()) == 2


async def test_allocation_after_a_full_pool_uses_the_next(env: DirectEnv) -> None:
    await env.pool("2001:db8:4000::/55", "first")
    await env.pool("2001:db8:5000::/55", "second")
    await env.pool("2001:db8:6000::/55", "third", tenant=None)
    given = [await env.provision(f"S-{n}", f"O-{n}") for n in range(5)]
    assert given[2:] == ["2001:db8:5000::/56", "2001:db8:5000:100::/56", "2001:db8:6000::/56"]
    assert await env.agree() == given
    # Pending removals search for the keys in the full pools. A key that is found in another pool is in use.
    await env.end_quarantines()
    assert await env.agree() == given


async def test_deleted_pool_prefix_is_reported_until_restored(env: DirectEnv, home: int) -> None:
    first = await env.provision("S-1", "O-1")
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{home}/")
    await env.begin("S-2", "O-2")
    failure = await refusal(env.allocate("S-2", "O-2"))
    assert (failure.type, failure.non_retryable) == ("PoolMovedError", True)
    assert f"pool home ({SPACE}) is prefix {home} in NetBox, which is not visible to the token" in failure.message
    assert "`lastmile pool add` again" in failure.message
    await env.undo("S-2", "O-2")
    await env.close("S-2", "O-2", "rolled_back")
    assert await env.agree() == [first]

    made = await asyncio.to_thread(env.peer.create, PREFIXES, prefix=SPACE, vrf=env.vrf, status="container")
    with pytest.raises(InvalidPoolError):
        await env.bind(SPACE, made["id"], on_release=OnRelease.DELETE, tenant="acme")
    await env.bind(SPACE, made["id"], on_release=OnRelease.DEPRECATE, tenant="acme")
    assert await env.agree() == [first]
    second = await env.provision("S-3", "O-3")
    assert await env.agree() == [first, second]


async def test_allocation_from_a_moved_pool_prefix_is_refused(env: DirectEnv, home: int) -> None:
    await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{home}/", {"prefix": "2001:db8:8000::/40"})
    await env.begin()
    failure = await refusal(env.allocate())
    assert (failure.type, failure.non_retryable) == ("PoolMovedError", True)
    assert "which gave 2001:db8:8000::/56" in failure.message
    await env.undo()
    await env.close(status="rolled_back")
    assert env.records() == []
    assert await env.agree() == []


@pytest.mark.parametrize("lost", [False, True], ids=["replied", "reply lost"])
async def test_allocation_from_a_pool_moved_to_another_vrf_is_refused(env: DirectEnv, home: int, lost: bool) -> None:
    person = await asyncio.to_thread(env.peer.create, PREFIXES, prefix="2001:db8:4000::/56", vrf=env.vrf)
    other_vrf = (await asyncio.to_thread(env.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"]
    await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{home}/", {"vrf": other_vrf})
    await env.begin()
    if lost:
        env.server.faults.next(LOST, method="POST", path=AVAILABLE)
    with pytest.raises(ApplicationError) as failure:
        await env.retry(env.allocate)
    assert (failure.value.type, failure.value.non_retryable) == ("PoolMovedError", True)
    assert "which gave 2001:db8:4000::/56 in another VRF. Restore it there" in failure.value.message
    await env.undo()
    await env.close(status="rolled_back")
    assert [one["id"] for one in env.records()] == [person["id"]]
    assert await env.owner.fetchval("SELECT count(*) FROM delegations WHERE prefix IS NOT NULL") == 0


async def test_allocation_without_permission_names_the_permission(env: DirectEnv, home: int) -> None:
    token = await asyncio.to_thread(env.peer.token_for, "view")
    await env.begin()
    async with NetBox(env.server.url, token) as netbox:
        env.use(netbox)
        failure = await refusal(env.allocate())
    env.use(env.netbox)
    assert (failure.type, failure.non_retryable) == ("NetBoxAuthorizationError", False)
    assert "grant the token's user `add` on ipam.prefix" in failure.message
    assert token not in failure.message
    await env.undo()
    await env.close(status="rolled_back")
    assert await env.agree() == []


async def test_pending_prefix_of_an_abandoned_order_is_reported_and_removed(env: DirectEnv, home: int) -> None:
    await env.begin()
    env.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(env.allocate())
    await env.close(status="abandoned")
    found = {violation.invariant.name: violation.words async for violation in check(env.database)}
    assert found["not_allocated"] == "waits for a prefix for ipv6_pd (pending) since order O-1, which ended abandoned"

    report = await env.deprovision()
    assert (report.outcome, report.facts) == (StepOutcome.DONE, {})
    assert env.records() == []
    assert await env.agree() == []


async def test_worker_without_netbox_leaves_the_step_to_another(env: DirectEnv, home: int) -> None:
    env.use(None)
    await env.begin()
    failure = await refusal(env.allocate())
    assert (failure.type, failure.non_retryable) == ("NoNetBoxError", False)
    env.use(env.netbox)
    prefix = await env.allocate()
    assert await env.agree() == [prefix]
