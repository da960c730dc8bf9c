"""A pool that NetBox chooses from: whatever is lost on the way, one prefix for a key or none, and both sides agree."""

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
from tests.support.direct_env import AVAILABLE, PREFIXES, SPACE, Kept, refusal
from tests.support.held_requests import Held

KEY_1 = "acme/S-1/ipv6_pd/O-1"


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Kept]:
    async with Kept.serving(owner_url, owner, standin) as kept:
        yield kept


@pytest.fixture
async def home(kept: Kept) -> int:
    """A pool of /56s, and its id in NetBox."""
    return await kept.pool()


async def until_recorded(kept: Kept, key: str = KEY_1) -> dict[str, Any]:
    """NetBox tells nobody when it has done what its client gave up on."""
    while True:
        if record := kept.record(key):
            return record
        await asyncio.sleep(0.01)


# The way of a prefix


async def test_the_way_of_a_prefix(kept: Kept, home: int) -> None:
    await kept.begin()
    prefix = await kept.allocate()
    assert prefix == "2001:db8:4000::/56"
    record = kept.record(KEY_1)
    assert record is not None
    assert (record["status"], record["description"]) == ("reserved", "is S-1's (Lastmile)")
    assert await kept.allocate() == prefix, "again"
    assert await kept.agree() == [prefix]

    assert (await kept.activate()).outcome is StepOutcome.DONE
    await kept.close()
    assert kept.record(KEY_1)["status"] == "active"  # type: ignore[index]
    assert await kept.agree() == [prefix]

    report = await kept.deprovision()
    assert (report.outcome, report.facts) == (StepOutcome.DONE, {"ipv6_prefix": prefix, "vrf": "access"})
    assert kept.record(KEY_1)["status"] == "deprecated"  # type: ignore[index]
    assert await kept.agree() == []

    await kept.provision("S-2", "O-2")
    assert "2001:db8:4000::/56" not in await kept.agree(), "it rests"

    await kept.everything_is_due()
    assert kept.record(KEY_1) is None
    assert len(await kept.agree()) == 1


async def test_a_pool_whose_releases_are_deleted(kept: Kept) -> None:
    await kept.pool(on_release=OnRelease.DELETE)
    await kept.provision()
    await kept.deprovision()
    assert kept.records() == []
    assert await kept.agree() == []


async def test_people_and_their_prefixes_are_left_alone(kept: Kept, home: int) -> None:
    await asyncio.to_thread(kept.peer.create, PREFIXES, prefix="2001:db8:4000::/56", vrf=kept.vrf)
    assert await kept.provision() == "2001:db8:4000:100::/56"
    await kept.deprovision()
    await kept.everything_is_due()
    assert [one["prefix"] for one in kept.records()] == ["2001:db8:4000::/56"]


# What gets lost on the way


@pytest.mark.parametrize(
    ("fault", "made"),
    [(LOST, 1), (CUT, 1), (REDIS_LOST, 1), (DROPPED, 0), (POSTGRES_DOWN, 0), (proxy(503), 0), (proxy(429), 0)],
)
@pytest.mark.parametrize("ending", ["again", "undone"])
async def test_one_prefix_whatever_is_lost(kept: Kept, home: int, fault: Fault, made: int, ending: str) -> None:
    await kept.begin()
    kept.server.faults.next(fault, method="POST", path=AVAILABLE)
    assert not (await refusal(kept.allocate())).non_retryable
    assert (len(kept.records()), await kept.states()) == (made, ["pending"])

    if ending == "again":
        prefix = await kept.allocate()
        assert await kept.agree() == [prefix]
    else:
        assert (await kept.undo()).outcome is StepOutcome.UNDONE
        await kept.close(status="rolled_back")
        assert kept.records() == []
        assert await kept.agree() == []


async def test_what_is_asked_of_netbox(kept: Kept, home: int) -> None:
    """One request where nothing is lost; and a retry looks before it asks for a second prefix."""
    asked, looked = Fault(delay=lambda: "asked"), Fault(delay=lambda: "looked")
    kept.server.faults.chance(asked, 1, method="POST", path=AVAILABLE)
    kept.server.faults.chance(looked, 1, method="GET", path=PREFIXES)
    await kept.begin("S-0", "O-0")
    await kept.allocate("S-0", "O-0")
    met = kept.server.faults.met
    assert (met[asked], met[looked]) == (1, 1), "the client has looked once whether NetBox has what is needed"

    await kept.begin()
    kept.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(kept.allocate())
    assert (met[asked], met[looked]) == (1, 1)
    await kept.allocate()
    assert (met[asked], met[looked]) == (1, 2)


async def test_a_retry_while_the_first_attempt_is_still_in_netbox(kept: Kept, home: int) -> None:
    """The retry waits behind it for NetBox's lock, and then finds the key taken, by its own first attempt."""
    await kept.begin()
    first = Held(kept.server)
    async with first.given_up(kept.netbox):
        assert "did not answer" in (await refusal(kept.allocate())).message
    retry = asyncio.create_task(kept.allocate_in_the_end())
    first.go_on()
    prefix = await retry
    assert await kept.agree() == [prefix]
    assert len(kept.records()) == 1


@pytest.mark.parametrize("ending", ["again", "undone before NetBox is done", "undone after"])
async def test_a_worker_that_is_lost_while_netbox_works(kept: Kept, home: int, ending: str) -> None:
    await kept.begin()
    first = Held(kept.server)
    attempt = asyncio.create_task(kept.allocate())
    await first.reached()
    attempt.cancel()
    await asyncio.wait([attempt])

    if ending == "undone before NetBox is done":
        # Nothing is found yet, so it is looked for once more.
        await kept.undo()
        await kept.close(status="rolled_back")
        first.go_on()
        await until_recorded(kept)
        await kept.everything_is_due()
        assert await kept.agree() == []
    else:
        first.go_on()
        await until_recorded(kept)
        if ending == "again":
            prefix = await kept.allocate()
            assert await kept.agree() == [prefix]
        else:
            await kept.undo()
            await kept.close(status="rolled_back")
            assert await kept.agree() == []
    assert len(kept.records()) == (ending == "again")


# Who comes too late


async def test_an_attempt_that_comes_back_after_the_undo_removes_what_it_made(kept: Kept, home: int) -> None:
    await kept.begin()
    first = Held(kept.server)
    late = asyncio.create_task(kept.allocate())
    await first.reached()
    await kept.undo()
    await kept.close(status="rolled_back")
    first.go_on()
    assert (await refusal(late)).type == "OrderFencedError"
    assert kept.records() == []
    assert await kept.agree() == []


async def test_an_attempt_that_comes_back_after_another_succeeded_leaves_that_alone(kept: Kept, home: int) -> None:
    await kept.begin()
    first = Held(kept.server)
    late = asyncio.create_task(kept.allocate())
    await first.reached()
    other = asyncio.create_task(kept.allocate())
    first.go_on()
    results = await asyncio.gather(late, other, return_exceptions=True)
    # Who comes second finds the delegation no longer pending; its next attempt finds it allocated.
    assert await kept.agree() == [result for result in results if isinstance(result, str)]
    assert await kept.allocate() in results


async def test_a_retry_that_finds_the_pool_full_by_its_own_first_attempt(kept: Kept) -> None:
    await kept.pool("2001:db8:4000::/55")
    await kept.provision("S-0", "O-0")
    await kept.begin()
    first = Held(kept.server)
    lost = asyncio.create_task(kept.allocate())
    await first.reached()
    lost.cancel()
    await asyncio.wait([lost])
    second = Held(kept.server, on_its_way=True)
    retry = asyncio.create_task(kept.allocate())
    await second.reached()  # it has looked, and found nothing
    first.go_on()
    record = await until_recorded(kept)
    second.go_on()
    assert await retry == record["prefix"]
    assert len(await kept.agree()) == 2


@pytest.mark.parametrize("deprovisioned", [False, True])
async def test_an_attempt_that_comes_back_after_its_order_ended_leaves_the_prefix_alone(
    kept: Kept, home: int, deprovisioned: bool
) -> None:
    """It finds the prefix by its key, in use or at rest."""
    await kept.begin()
    held_up = Held(kept.server, on_its_way=True)
    late = asyncio.create_task(kept.allocate())
    await held_up.reached()
    prefix = await kept.allocate()
    await kept.activate()
    await kept.close()
    if deprovisioned:
        await kept.deprovision()
    held_up.go_on()
    assert (await refusal(late)).type == "OrderFencedError"
    assert await kept.agree() == ([] if deprovisioned else [prefix])


async def test_an_activation_that_comes_back_after_the_undo_shows_what_is(kept: Kept, home: int) -> None:
    await kept.begin()
    await kept.allocate()
    held_up = Held(kept.server, "PATCH", PREFIXES, on_its_way=True)
    late = asyncio.create_task(kept.activate())
    await held_up.reached()
    await kept.run(kept.addresses.revoke_ipv6_lifecycle, kept.ref("S-1", "O-1", undo=True))
    await kept.undo()
    await kept.close(status="rolled_back")
    held_up.go_on()
    await late
    assert await kept.agree() == []


async def test_an_order_that_takes_over_gets_what_was_begun(kept: Kept, home: int) -> None:
    """The run of the first was terminated while NetBox worked; its attempt comes back and must not take it away."""
    await kept.begin()
    first = Held(kept.server)
    late = asyncio.create_task(kept.allocate())
    await first.reached()
    await kept.begin(order="O-2")
    heir = asyncio.create_task(kept.allocate(order="O-2"))
    first.go_on()
    prefix = await heir
    assert (await refusal(late)).type == "OrderFencedError"
    assert await kept.agree() == [prefix]
    assert await kept.owner.fetchval("SELECT created_by_order FROM delegations") == "O-2"


# What a retry cannot fix


async def test_a_full_pool(kept: Kept) -> None:
    await kept.pool("2001:db8:4000::/55")
    first = await kept.provision("S-1", "O-1")
    second = await kept.provision("S-2", "O-2")
    await kept.begin("S-3", "O-3")
    failure = await refusal(kept.allocate("S-3", "O-3"))
    assert (failure.type, failure.non_retryable) == ("PoolExhaustedError", True)
    assert failure.message.startswith(
        "Cannot allocate a /56 from pool home (2001:db8:4000::/55): NetBox has no free prefix left in it"
    )
    assert await kept.states() == ["active", "active", "failed"]
    assert (await refusal(kept.allocate("S-3", "O-3"))).type == "PoolExhaustedError", (
        "again, if the first reply was lost"
    )
    await kept.undo("S-3", "O-3")
    await kept.close("S-3", "O-3", "rolled_back")
    assert await kept.agree() == [first, second]

    await kept.deprovision("S-1", "D-1")
    await kept.begin("S-4", "O-4")
    assert (await refusal(kept.allocate("S-4", "O-4"))).type == "PoolExhaustedError", "it rests"
    await kept.undo("S-4", "O-4")
    await kept.close("S-4", "O-4", "rolled_back")
    await kept.owner.execute("UPDATE netbox_removals SET due_at = now()")
    assert await kept.provision("S-5", "O-5") == first, "it has rested, and makes room where that is needed"
    assert len(await kept.agree()) == 2


async def test_after_a_full_pool_comes_the_next(kept: Kept) -> None:
    await kept.pool("2001:db8:4000::/55", "first")
    await kept.pool("2001:db8:5000::/55", "second")
    await kept.pool("2001:db8:6000::/55", "third", tenant=None)
    given = [await kept.provision(f"S-{n}", f"O-{n}") for n in range(5)]
    assert given[2:] == ["2001:db8:5000::/56", "2001:db8:5000:100::/56", "2001:db8:6000::/56"]
    assert await kept.agree() == given
    # In the pools that were left their keys are looked for once more: found in another pool, they are in use.
    await kept.everything_is_due()
    assert await kept.agree() == given


async def test_pools_of_the_database_come_first(kept: Kept, home: int) -> None:
    await kept.owner.execute(
        """
        INSERT INTO pools (tenant_id, name, purpose, prefix, vrf, delegated_length, first_slot, end_slot, frontier)
        VALUES ('acme', 'own', 'ipv6_pd', '2001:db8:9000::/56', 'access', 56, 0, 1, 0)
        """
    )
    assert await kept.provision("S-1", "O-1") == "2001:db8:9000::/56"
    assert await kept.provision("S-2", "O-2") == "2001:db8:4000::/56"
    await kept.begin("S-3", "O-3")
    assert await kept.allocate("S-3", "O-3", ipv6_pool="home") == "2001:db8:4000:100::/56"


async def test_a_pool_prefix_that_was_deleted_by_hand(kept: Kept, home: int) -> None:
    first = await kept.provision("S-1", "O-1")
    await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{home}/")
    await kept.begin("S-2", "O-2")
    failure = await refusal(kept.allocate("S-2", "O-2"))
    assert (failure.type, failure.non_retryable) == ("PoolMovedError", True)
    assert f"pool home ({SPACE}) is prefix {home} in NetBox, which is not visible to the token" in failure.message
    assert "`lastmile pool add` again" in failure.message
    await kept.undo("S-2", "O-2")
    await kept.close("S-2", "O-2", "rolled_back")
    assert await kept.agree() == [first]

    made = await asyncio.to_thread(kept.peer.create, PREFIXES, prefix=SPACE, vrf=kept.vrf, status="container")
    with pytest.raises(InvalidPoolError):
        await kept.bind(SPACE, made["id"], on_release=OnRelease.DELETE, tenant="acme")
    await kept.bind(SPACE, made["id"], on_release=OnRelease.DEPRECATE, tenant="acme")
    assert await kept.agree() == [first]
    second = await kept.provision("S-3", "O-3")
    assert await kept.agree() == [first, second]


async def test_a_pool_prefix_that_was_moved_by_hand(kept: Kept, home: int) -> None:
    await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{home}/", {"prefix": "2001:db8:8000::/40"})
    await kept.begin()
    failure = await refusal(kept.allocate())
    assert (failure.type, failure.non_retryable) == ("PoolMovedError", True)
    assert "which gave 2001:db8:8000::/56" in failure.message
    await kept.undo()
    await kept.close(status="rolled_back")
    assert kept.records() == []
    assert await kept.agree() == []


@pytest.mark.parametrize("lost", [False, True], ids=["replied", "reply lost"])
async def test_a_pool_in_another_vrf_gives_no_order_a_prefix_that_somebody_holds(
    kept: Kept, home: int, lost: bool
) -> None:
    person = await asyncio.to_thread(kept.peer.create, PREFIXES, prefix="2001:db8:4000::/56", vrf=kept.vrf)
    elsewhere = (await asyncio.to_thread(kept.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"]
    await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{home}/", {"vrf": elsewhere})
    await kept.begin()
    if lost:
        kept.server.faults.next(LOST, method="POST", path=AVAILABLE)
    with pytest.raises(ApplicationError) as failure:
        await kept.insist(kept.allocate)
    assert (failure.value.type, failure.value.non_retryable) == ("PoolMovedError", True)
    assert "which gave 2001:db8:4000::/56 in another VRF. Restore it there" in failure.value.message
    await kept.undo()
    await kept.close(status="rolled_back")
    assert [one["id"] for one in kept.records()] == [person["id"]]
    assert await kept.owner.fetchval("SELECT count(*) FROM delegations WHERE prefix IS NOT NULL") == 0


async def test_a_token_that_may_not(kept: Kept, home: int) -> None:
    token = await asyncio.to_thread(kept.peer.token_for, "view")
    await kept.begin()
    async with NetBox(kept.server.url, token) as netbox:
        kept.use(netbox)
        failure = await refusal(kept.allocate())
    kept.use(kept.netbox)
    assert (failure.type, failure.non_retryable) == ("NetBoxAuthorizationError", False)
    assert "grant the token's user `add` on ipam.prefix" in failure.message
    assert token not in failure.message
    await kept.undo()
    await kept.close(status="rolled_back")
    assert await kept.agree() == []


async def test_what_an_abandoned_order_left_half_done_is_reported_and_taken_down(kept: Kept, home: int) -> None:
    await kept.begin()
    kept.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(kept.allocate())
    await kept.close(status="abandoned")
    found = {violation.invariant.name: violation.words async for violation in check(kept.database)}
    assert found["not_allocated"] == "waits for a prefix for ipv6_pd (pending) since order O-1, which ended abandoned"

    report = await kept.deprovision()
    assert (report.outcome, report.facts) == (StepOutcome.DONE, {})
    assert kept.records() == []
    assert await kept.agree() == []


async def test_a_worker_without_netbox_leaves_it_to_another(kept: Kept, home: int) -> None:
    kept.use(None)
    await kept.begin()
    failure = await refusal(kept.allocate())
    assert (failure.type, failure.non_retryable) == ("NoNetBoxError", False)
    kept.use(kept.netbox)
    prefix = await kept.allocate()
    assert await kept.agree() == [prefix]


# The release


@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED, REDIS_LOST, POSTGRES_DOWN, proxy(502)])
@pytest.mark.parametrize(("on_release", "method"), [(OnRelease.DEPRECATE, "PATCH"), (OnRelease.DELETE, "DELETE")])
async def test_a_release_is_repeated_until_it_is_done(
    kept: Kept, fault: Fault, on_release: OnRelease, method: str
) -> None:
    await kept.pool(on_release=on_release)
    await kept.provision()
    await kept.begin(order="D-1", operation="deprovision")
    ref = kept.ref("S-1", "D-1")
    await kept.run(kept.addresses.revoke_ipv6_lifecycle, ref)
    kept.server.faults.next(fault, method=method, times=4)  # the client itself tries three times
    report = await kept.insist(lambda: kept.run(kept.addresses.release_ip_address, ref))
    assert (report.outcome, report.facts) == (StepOutcome.DONE, {"ipv6_prefix": "2001:db8:4000::/56", "vrf": "access"})
    await kept.close(order="D-1")
    assert await kept.agree() == []
    assert len(kept.records()) == (on_release is OnRelease.DEPRECATE)


async def test_a_release_that_nobody_finished_is_finished_in_time(kept: Kept, home: int) -> None:
    await kept.provision()
    await kept.begin(order="D-1", operation="deprovision")
    await kept.run(kept.addresses.revoke_ipv6_lifecycle, kept.ref("S-1", "D-1"))
    kept.server.stop()
    await refusal(kept.run(kept.addresses.release_ip_address, kept.ref("S-1", "D-1")))
    kept.server.start()
    await kept.everything_is_due()
    await kept.close(order="D-1")
    assert kept.records() == []
    assert await kept.agree() == []


@pytest.mark.parametrize("on_release", list(OnRelease))
async def test_a_record_that_a_person_made_theirs_is_left_alone(kept: Kept, on_release: OnRelease) -> None:
    await kept.pool(on_release=on_release)
    await kept.provision()
    record = kept.record(KEY_1)
    assert record is not None
    mine = {"custom_fields": {"lastmile_key": None}, "description": "a person's", "status": "active"}
    await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{record['id']}/", mine)
    report = await kept.deprovision()
    assert report.outcome is StepOutcome.WARNED
    assert "2001:db8:4000::/56 in NetBox does not carry our key any more, and was left as it is" in report.reason
    await kept.everything_is_due()
    assert [(one["description"], one["status"]) for one in kept.records()] == [("a person's", "active")]


async def test_a_record_that_a_person_deleted_and_made_again_is_left_alone(kept: Kept, home: int) -> None:
    prefix = await kept.provision()
    record = kept.record(KEY_1)
    assert record is not None
    await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{record['id']}/")
    await asyncio.to_thread(kept.peer.create, PREFIXES, prefix=prefix, vrf=kept.vrf)
    assert (await kept.deprovision()).outcome is StepOutcome.DONE
    await kept.everything_is_due()
    assert [one["prefix"] for one in kept.records()] == [prefix]


async def test_a_prefix_whose_record_was_deleted_is_not_given_again(kept: Kept, home: int) -> None:
    """NetBox gives it to the next who asks; that record becomes its holder's, and the next gets another."""
    first = await kept.provision("S-1", "O-1")
    record = kept.record(KEY_1)
    assert record is not None
    await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{record['id']}/")
    await kept.begin("S-2", "O-2")
    failure = await refusal(kept.allocate("S-2", "O-2"))
    assert (failure.type, failure.non_retryable) == ("PrefixHeldError", False)
    second = await kept.allocate("S-2", "O-2")
    assert await kept.agree() == [first, second]
    assert kept.record(KEY_1)["status"] == "active"  # type: ignore[index]


async def test_an_activation_waits_for_netbox_and_the_address_does_not(kept: Kept, home: int) -> None:
    await kept.begin()
    prefix = await kept.allocate()
    kept.server.stop()
    assert not (await refusal(kept.activate())).non_retryable
    assert await kept.owner.fetchval("SELECT value FROM radreply") == prefix
    kept.server.start()
    assert (await kept.activate()).outcome is StepOutcome.DONE
    await kept.close()
    assert await kept.agree() == [prefix]
