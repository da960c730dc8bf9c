"""Activation and release of prefixes in direct pools."""

import asyncio

import pytest

from ipam.modes import OnRelease
from lastmile.contract.results import StepOutcome
from lastmile.devstack.netbox.http.faults import CUT, DROPPED, LOST, POSTGRES_DOWN, REDIS_LOST, Fault, proxy
from tests.support.direct_env import KEY_1, PREFIXES, DirectEnv, refusal


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


async def test_release_in_a_pool_that_deletes_removes_the_record(env: DirectEnv) -> None:
    await env.pool(on_release=OnRelease.DELETE)
    await env.provision()
    await env.deprovision()
    assert env.records() == []
    assert await env.agree() == []


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
