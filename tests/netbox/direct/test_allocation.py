"""Direct pools: after any fault, a key has one prefix or none, and NetBox and the database agree."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError

from ipam.errors import InvalidPoolError
from ipam.netbox import NetBox
from ipam.netbox.binding import OnRelease
from lastmile.audit.audit import check
from lastmile.contract.results import StepOutcome
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import CUT, DROPPED, LOST, POSTGRES_DOWN, REDIS_LOST, Fault, proxy
from tests.support.direct_env import AVAILABLE, PREFIXES, SPACE, DirectEnv, refusal
from tests.support.held_requests import HeldRequest

KEY_1 = "acme/S-1/ipv6_pd/O-1"


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DirectEnv]:
    async with DirectEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


@pytest.fixture
async def home(env: DirectEnv) -> int:
    """Add a direct pool of /56s; return its id in NetBox."""
    return await env.pool()


async def until_recorded(env: DirectEnv, key: str = KEY_1) -> dict[str, Any]:
    """Wait until NetBox has a record with the key: it completes requests that the client gave up."""
    while True:
        if record := env.record(key):
            return record
        await asyncio.sleep(0.01)


# The lifecycle of a prefix


async def test_prefix_record_follows_the_lifecycle(env: DirectEnv, home: int) -> None:
    await env.begin()
    prefix = await env.allocate()
    assert prefix == "2001:db8:4000::/56"
    record = env.record(KEY_1)
    assert record is not None
    assert (record["status"], record["description"]) == ("reserved", "is S-1's (Lastmile)")
    assert await env.allocate() == prefix, "again"
    assert await env.agree() == [prefix]

    assert (await env.activate()).outcome is StepOutcome.DONE
    await env.close()
    assert env.record(KEY_1)["status"] == "active"  # type: ignore[index]
    assert await env.agree() == [prefix]

    report = await env.deprovision()
    assert (report.outcome, report.facts) == (StepOutcome.DONE, {"ipv6_prefix": prefix, "vrf": "access"})
    assert env.record(KEY_1)["status"] == "deprecated"  # type: ignore[index]
    assert await env.agree() == []

    await env.provision("S-2", "O-2")
    assert "2001:db8:4000::/56" not in await env.agree(), "in quarantine"

    await env.end_quarantines()
    assert env.record(KEY_1) is None
    assert len(await env.agree()) == 1


async def test_release_in_a_pool_that_deletes_removes_the_record(env: DirectEnv) -> None:
    await env.pool(on_release=OnRelease.DELETE)
    await env.provision()
    await env.deprovision()
    assert env.records() == []
    assert await env.agree() == []


async def test_foreign_prefixes_are_left_unchanged(env: DirectEnv, home: int) -> None:
    await asyncio.to_thread(env.peer.create, PREFIXES, prefix="2001:db8:4000::/56", vrf=env.vrf)
    assert await env.provision() == "2001:db8:4000:100::/56"
    await env.deprovision()
    await env.end_quarantines()
    assert [one["prefix"] for one in env.records()] == ["2001:db8:4000::/56"]


# Lost requests and replies


@pytest.mark.parametrize(
    ("fault", "made"),
    [(LOST, 1), (CUT, 1), (REDIS_LOST, 1), (DROPPED, 0), (POSTGRES_DOWN, 0), (proxy(503), 0), (proxy(429), 0)],
)
@pytest.mark.parametrize("ending", ["again", "undone"])
async def test_allocation_with_a_fault_yields_one_prefix_or_none(
    env: DirectEnv, home: int, fault: Fault, made: int, ending: str
) -> None:
    await env.begin()
    env.server.faults.next(fault, method="POST", path=AVAILABLE)
    assert not (await refusal(env.allocate())).non_retryable
    assert (len(env.records()), await env.states()) == (made, ["pending"])

    if ending == "again":
        prefix = await env.allocate()
        assert await env.agree() == [prefix]
    else:
        assert (await env.undo()).outcome is StepOutcome.UNDONE
        await env.close(status="rolled_back")
        assert env.records() == []
        assert await env.agree() == []


async def test_allocation_sends_one_request_and_a_retry_looks_first(env: DirectEnv, home: int) -> None:
    """A retry searches for the key before it requests a second prefix."""
    asked, looked = Fault(delay=lambda: "asked"), Fault(delay=lambda: "looked")
    env.server.faults.chance(asked, 1, method="POST", path=AVAILABLE)
    env.server.faults.chance(looked, 1, method="GET", path=PREFIXES)
    await env.begin("S-0", "O-0")
    await env.allocate("S-0", "O-0")
    met = env.server.faults.met
    assert (met[asked], met[looked]) == (1, 1), "the client has checked the requirements once"

    await env.begin()
    env.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(env.allocate())
    assert (met[asked], met[looked]) == (1, 1)
    await env.allocate()
    assert (met[asked], met[looked]) == (1, 2)


async def test_retry_beside_the_first_attempt_returns_its_prefix(env: DirectEnv, home: int) -> None:
    """The retry waits for NetBox's lock, and then finds the key used by its own first attempt."""
    await env.begin()
    first = HeldRequest(env.server)
    async with first.abandoned_by(env.netbox):
        assert "did not answer" in (await refusal(env.allocate())).message
    retry = asyncio.create_task(env.allocate_with_retries())
    first.resume()
    prefix = await retry
    assert await env.agree() == [prefix]
    assert len(env.records()) == 1


@pytest.mark.parametrize("ending", ["again", "undone before NetBox is done", "undone after"])
async def test_allocation_of_a_lost_worker_leaves_one_prefix_or_none(env: DirectEnv, home: int, ending: str) -> None:
    await env.begin()
    first = HeldRequest(env.server)
    attempt = asyncio.create_task(env.allocate())
    await first.reached()
    attempt.cancel()
    await asyncio.wait([attempt])

    if ending == "undone before NetBox is done":
        # The undo finds no record yet, so a pending removal searches for it later.
        await env.undo()
        await env.close(status="rolled_back")
        first.resume()
        await until_recorded(env)
        await env.end_quarantines()
        assert await env.agree() == []
    else:
        first.resume()
        await until_recorded(env)
        if ending == "again":
            prefix = await env.allocate()
            assert await env.agree() == [prefix]
        else:
            await env.undo()
            await env.close(status="rolled_back")
            assert await env.agree() == []
    assert len(env.records()) == (ending == "again")


# Attempts that are resumed late


async def test_attempt_resumed_after_the_undo_removes_its_record(env: DirectEnv, home: int) -> None:
    await env.begin()
    first = HeldRequest(env.server)
    late = asyncio.create_task(env.allocate())
    await first.reached()
    await env.undo()
    await env.close(status="rolled_back")
    first.resume()
    assert (await refusal(late)).type == "OrderFencedError"
    assert env.records() == []
    assert await env.agree() == []


async def test_attempt_resumed_after_another_succeeded_keeps_its_record(env: DirectEnv, home: int) -> None:
    await env.begin()
    first = HeldRequest(env.server)
    late = asyncio.create_task(env.allocate())
    await first.reached()
    other = asyncio.create_task(env.allocate())
    first.resume()
    results = await asyncio.gather(late, other, return_exceptions=True)
    # The second attempt finds the delegation no longer pending; its retry finds it allocated.
    assert await env.agree() == [result for result in results if isinstance(result, str)]
    assert await env.allocate() in results


async def test_retry_in_a_pool_filled_by_its_first_attempt_succeeds(env: DirectEnv) -> None:
    await env.pool("2001:db8:4000::/55")
    await env.provision("S-0", "O-0")
    await env.begin()
    first = HeldRequest(env.server)
    lost = asyncio.create_task(env.allocate())
    await first.reached()
    lost.cancel()
    await asyncio.wait([lost])
    second = HeldRequest(env.server, before_arrival=True)
    retry = asyncio.create_task(env.allocate())
    await second.reached()  # the retry has searched and found nothing
    first.resume()
    record = await until_recorded(env)
    second.resume()
    assert await retry == record["prefix"]
    assert len(await env.agree()) == 2


@pytest.mark.parametrize("deprovisioned", [False, True])
async def test_attempt_resumed_after_the_order_ended_keeps_the_prefix(
    env: DirectEnv, home: int, deprovisioned: bool
) -> None:
    """The attempt finds the prefix by its key, in use or in quarantine."""
    await env.begin()
    held_up = HeldRequest(env.server, before_arrival=True)
    late = asyncio.create_task(env.allocate())
    await held_up.reached()
    prefix = await env.allocate()
    await env.activate()
    await env.close()
    if deprovisioned:
        await env.deprovision()
    held_up.resume()
    assert (await refusal(late)).type == "OrderFencedError"
    assert await env.agree() == ([] if deprovisioned else [prefix])


async def test_activation_resumed_after_the_undo_shows_the_present_state(env: DirectEnv, home: int) -> None:
    await env.begin()
    await env.allocate()
    held_up = HeldRequest(env.server, "PATCH", PREFIXES, before_arrival=True)
    late = asyncio.create_task(env.activate())
    await held_up.reached()
    await env.run(env.addresses.revoke_ipv6_lifecycle, env.ref("S-1", "O-1", undo=True))
    await env.undo()
    await env.close(status="rolled_back")
    held_up.resume()
    await late
    assert await env.agree() == []


async def test_order_that_takes_over_gets_the_pending_prefix(env: DirectEnv, home: int) -> None:
    """The first run was terminated during its request. Its late attempt must not remove the prefix."""
    await env.begin()
    first = HeldRequest(env.server)
    late = asyncio.create_task(env.allocate())
    await first.reached()
    await env.begin(order="O-2")
    heir = asyncio.create_task(env.allocate(order="O-2"))
    first.resume()
    prefix = await heir
    assert (await refusal(late)).type == "OrderFencedError"
    assert await env.agree() == [prefix]
    assert await env.owner.fetchval("SELECT created_by_order FROM delegations") == "O-2"


# Failures that no retry fixes


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


async def test_pools_of_the_database_are_preferred(env: DirectEnv, home: int) -> None:
    await env.owner.execute(
        """
        INSERT INTO pools (tenant_id, name, purpose, prefix, vrf, delegated_length, first_slot, end_slot, frontier)
        VALUES ('acme', 'own', 'ipv6_pd', '2001:db8:9000::/56', 'access', 56, 0, 1, 0)
        """
    )
    assert await env.provision("S-1", "O-1") == "2001:db8:9000::/56"
    assert await env.provision("S-2", "O-2") == "2001:db8:4000::/56"
    await env.begin("S-3", "O-3")
    assert await env.allocate("S-3", "O-3", ipv6_pool="home") == "2001:db8:4000:100::/56"


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


# The release


@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED, REDIS_LOST, POSTGRES_DOWN, proxy(502)])
@pytest.mark.parametrize(("on_release", "method"), [(OnRelease.DEPRECATE, "PATCH"), (OnRelease.DELETE, "DELETE")])
async def test_release_with_a_fault_is_repeated(
    env: DirectEnv, fault: Fault, on_release: OnRelease, method: str
) -> None:
    await env.pool(on_release=on_release)
    await env.provision()
    await env.begin(order="D-1", operation="deprovision")
    ref = env.ref("S-1", "D-1")
    await env.run(env.addresses.revoke_ipv6_lifecycle, ref)
    env.server.faults.next(fault, method=method, times=4)  # the client tries three times by itself
    report = await env.retry(lambda: env.run(env.addresses.release_ip_address, ref))
    assert (report.outcome, report.facts) == (StepOutcome.DONE, {"ipv6_prefix": "2001:db8:4000::/56", "vrf": "access"})
    await env.close(order="D-1")
    assert await env.agree() == []
    assert len(env.records()) == (on_release is OnRelease.DEPRECATE)


async def test_unfinished_release_is_completed_by_the_pending_removal(env: DirectEnv, home: int) -> None:
    await env.provision()
    await env.begin(order="D-1", operation="deprovision")
    await env.run(env.addresses.revoke_ipv6_lifecycle, env.ref("S-1", "D-1"))
    env.server.stop()
    await refusal(env.run(env.addresses.release_ip_address, env.ref("S-1", "D-1")))
    env.server.start()
    await env.end_quarantines()
    await env.close(order="D-1")
    assert env.records() == []
    assert await env.agree() == []


@pytest.mark.parametrize("on_release", list(OnRelease))
async def test_record_taken_over_by_another_user_is_kept(env: DirectEnv, on_release: OnRelease) -> None:
    await env.pool(on_release=on_release)
    await env.provision()
    record = env.record(KEY_1)
    assert record is not None
    mine = {"custom_fields": {"lastmile_key": None}, "description": "a person's", "status": "active"}
    await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{record['id']}/", mine)
    report = await env.deprovision()
    assert report.outcome is StepOutcome.WARNED
    assert "2001:db8:4000::/56 in NetBox does not carry our key any more, and was left as it is" in report.reason
    await env.end_quarantines()
    assert [(one["description"], one["status"]) for one in env.records()] == [("a person's", "active")]


async def test_record_deleted_and_recreated_by_another_user_is_kept(env: DirectEnv, home: int) -> None:
    prefix = await env.provision()
    record = env.record(KEY_1)
    assert record is not None
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{record['id']}/")
    await asyncio.to_thread(env.peer.create, PREFIXES, prefix=prefix, vrf=env.vrf)
    assert (await env.deprovision()).outcome is StepOutcome.DONE
    await env.end_quarantines()
    assert [one["prefix"] for one in env.records()] == [prefix]


async def test_prefix_with_a_deleted_record_is_not_assigned_again(env: DirectEnv, home: int) -> None:
    """NetBox assigns it to the next order. That record becomes the holder's, and the order gets another prefix."""
    first = await env.provision("S-1", "O-1")
    record = env.record(KEY_1)
    assert record is not None
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{record['id']}/")
    await env.begin("S-2", "O-2")
    failure = await refusal(env.allocate("S-2", "O-2"))
    assert (failure.type, failure.non_retryable) == ("PrefixHeldError", False)
    second = await env.allocate("S-2", "O-2")
    assert await env.agree() == [first, second]
    assert env.record(KEY_1)["status"] == "active"  # type: ignore[index]


async def test_activation_without_netbox_writes_radius_and_waits(env: DirectEnv, home: int) -> None:
    await env.begin()
    prefix = await env.allocate()
    env.server.stop()
    assert not (await refusal(env.activate())).non_retryable
    assert await env.owner.fetchval("SELECT value FROM radreply") == prefix
    env.server.start()
    assert (await env.activate()).outcome is StepOutcome.DONE
    await env.close()
    assert await env.agree() == [prefix]
