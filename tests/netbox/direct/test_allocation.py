"""Allocation from direct pools: after any fault, a key has one prefix or none, and NetBox and the database agree."""

import asyncio

import pytest

from lastmile.contract.results import StepOutcome
from lastmile.devstack.netbox.http.faults import CUT, DROPPED, LOST, POSTGRES_DOWN, REDIS_LOST, Fault, proxy
from tests.support.direct_env import AVAILABLE, KEY_1, PREFIXES, DirectEnv, refusal, until_recorded
from tests.support.held_requests import HeldRequest


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


async def test_foreign_prefixes_are_left_unchanged(env: DirectEnv, home: int) -> None:
    await asyncio.to_thread(env.peer.create, PREFIXES, prefix="2001:db8:4000::/56", vrf=env.vrf)
    assert await env.provision() == "2001:db8:4000:100::/56"
    await env.deprovision()
    await env.end_quarantines()
    assert [one["prefix"] for one in env.records()] == ["2001:db8:4000::/56"]


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
