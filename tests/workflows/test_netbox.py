"""Whole orders with a direct pool: NetBox and the database agree after every kind of run."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.messages import OUTAGE
from ipam.netbox import NetBox
from ipam.netbox.requirements import NOT_VISIBLE, check, set_up
from lastmile.client.orders import Lastmile
from lastmile.contract import Cleanup, Decision, ProvisionSubscriber, ResultStatus, operations
from lastmile.contract.addressing import Addressing
from lastmile.contract.steps import CallKind, pivot_of
from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import LOST, POSTGRES_DOWN, Fault, proxy
from lastmile.devstack.netbox.http.http_errors import HttpError
from lastmile.devstack.netbox.model.versions import V4_4, V4_6
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.direct_env import PREFIXES, SPACE, VRF, DirectEnv
from tests.support.faults import Faults, Gate, broken, once, refused
from tests.support.held_requests import HeldRequest
from tests.support.maintenance import AT_ONCE, Maintenance
from tests.support.orders import Orders, cancel_requested, outcomes, parked, retrying, what_is_there
from workflows.step_activity import PATIENCE

PROVISION = [step.name for step in operations.PROVISION.steps]
REQUIRED = [step.name for step in operations.PROVISION.steps if not step.best_effort]
DEPROVISION = [step.name for step in operations.DEPROVISION.steps]
MORE_THAN_ALL = 2 * PATIENCE[CallKind.IPAM].attempts
PIVOT = pivot_of(operations.DEPROVISION.steps)


@pytest.fixture
async def env(
    request: pytest.FixtureRequest, database: Database, owner: asyncpg.Connection, authorization: DynamicAuthorization
) -> AsyncIterator[DirectEnv]:
    with NetBoxServer(version=getattr(request, "param", V4_4)) as server:
        async with NetBox(server.url, server.token) as netbox:
            env = DirectEnv(server, netbox, database, owner, authorization)
            await env.set_up()
            await env.pool(SPACE, "netbox")
            yield env


@pytest.fixture
async def worker(
    client: Client, settings: Settings, database: Database, authorization: DynamicAuthorization, env: DirectEnv
) -> AsyncIterator[Worker]:
    async with build_worker(client, settings, database, authorization, netbox=env.netbox) as worker:
        yield worker


def order(orders: Orders, order_id: str = "O-1", nth: int = 0) -> ProvisionSubscriber:
    return orders.provision(order_id, nth, addressing=Addressing(ipv6_pool="netbox", vrf=VRF))


@pytest.mark.parametrize("env", [V4_4, V4_6], indirect=True, ids=["4.4", "4.6"])
async def test_provision_and_deprovision_keep_netbox_in_agreement(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults
) -> None:
    result = await lastmile.execute(order(orders))
    assert (result.status, result.created.ipv6_prefix) == (ResultStatus.COMPLETED, "2001:db8:4000::/56")
    assert {step.attempts for step in result.steps} == {1}, "a step that declines to be local has not failed"
    assert await env.agree(whole_lines=True) == ["2001:db8:4000::/56"]

    result = await lastmile.execute(orders.deprovision())
    assert result.status is ResultStatus.COMPLETED
    assert await env.agree(whole_lines=True) == []
    assert [one["status"] for one in env.records()] == ["deprecated"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", [refused, broken], ids=["refused", "broken"])
async def test_provision_that_fails_at_any_step_leaves_nothing(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults, fault: Any, when: str
) -> None:
    nothing = await what_is_there(env.owner)
    setattr(faults, when, {(f"O-{step}", step): fault for step in REQUIRED})
    sent = [order(orders, f"O-{step}", nth) for nth, step in enumerate(REQUIRED)]

    results = await asyncio.gather(*(lastmile.execute(one) for one in sent))

    assert {result.status for result in results} == {ResultStatus.ROLLED_BACK}
    assert await what_is_there(env.owner) == nothing
    assert await env.agree(whole_lines=True) == []
    await env.end_quarantines()
    assert env.records() == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_provision_cancelled_at_any_step_before_the_last_leaves_nothing(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults, when: str
) -> None:
    nothing = await what_is_there(env.owner)
    steps = PROVISION[:-1]
    gates = {(f"O-{step}", step): Gate() for step in steps}
    setattr(faults, when, gates)
    runs = [await lastmile.start(order(orders, f"O-{step}", nth)) for nth, step in enumerate(steps)]
    for run, gate in zip(runs, gates.values(), strict=True):
        await gate.reached.wait()
        await run.handle.cancel()
        gate.open()

    assert {(await run.result()).status for run in runs} == {ResultStatus.ROLLED_BACK}
    assert await what_is_there(env.owner) == nothing
    assert await env.agree(whole_lines=True) == []


async def test_cancel_during_a_request_to_netbox_leaves_nothing(
    lastmile: Lastmile, orders: Orders, env: DirectEnv
) -> None:
    nothing = await what_is_there(env.owner)
    allocation = HeldRequest(env.server)
    run = await lastmile.start(order(orders))
    await allocation.reached()
    await run.handle.cancel()
    allocation.resume()

    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(env.owner) == nothing
    assert await env.agree(whole_lines=True) == []


async def test_orders_with_every_reply_lost_complete(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults
) -> None:
    """Replies to Temporal and replies of NetBox are lost."""
    faults.after = dict.fromkeys([*PROVISION, *DEPROVISION], once(broken))
    for method in ("POST", "PATCH"):
        env.server.faults.next(LOST, method=method)
    result = await lastmile.execute(order(orders))
    assert result.status is ResultStatus.COMPLETED
    assert await env.agree(whole_lines=True) == [result.created.ipv6_prefix]
    env.server.faults.next(LOST, method="PATCH")
    assert (await lastmile.execute(orders.deprovision())).status is ResultStatus.COMPLETED
    assert await env.agree(whole_lines=True) == []


@pytest.mark.parametrize("step", DEPROVISION[:PIVOT])
async def test_deprovision_refused_before_the_pivot_changes_nothing(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults, step: str
) -> None:
    prefix = (await lastmile.execute(order(orders))).created.ipv6_prefix
    faults.after[step] = refused
    assert (await lastmile.execute(orders.deprovision())).status is ResultStatus.ROLLED_BACK
    assert await env.agree(whole_lines=True) == [prefix]


async def test_order_waits_for_an_unreachable_netbox(lastmile: Lastmile, orders: Orders, env: DirectEnv) -> None:
    env.server.stop()
    run = await lastmile.start(order(orders))
    while True:
        if await env.owner.fetchval("SELECT count(*) FROM delegations WHERE state = 'pending'"):
            break
        await asyncio.sleep(0.02)  # the database sends no notification
    env.server.start()
    result = await run.result()
    assert result.status is ResultStatus.COMPLETED
    assert await env.agree(whole_lines=True) == [result.created.ipv6_prefix]


@pytest.mark.parametrize(
    ("refused_by", "accepted_by"),
    [
        ({"enabled": False}, {"enabled": True}),
        ({"expires": "2020-01-01T00:00:00+00:00"}, {"expires": None}),
        ({"write_enabled": False}, {"write_enabled": True}),
    ],
    ids=["disabled", "expired", "read-only"],
)
async def test_order_waits_until_netbox_accepts_the_token(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, refused_by: dict[str, Any], accepted_by: dict[str, Any]
) -> None:
    env.change_token(**refused_by)
    run = await lastmile.start(order(orders))
    failure = await retrying(run, "allocate_ip_address")
    assert failure.application_failure_info.type == "NetBoxAuthorizationError"
    env.change_token(**accepted_by)
    result = await run.result()
    assert result.status is ResultStatus.COMPLETED
    assert await env.agree(whole_lines=True) == [result.created.ipv6_prefix]


@pytest.mark.parametrize("env", [V4_6], indirect=True, ids=["4.6"])
async def test_order_waits_until_netbox_is_set_up(lastmile: Lastmile, orders: Orders, env: DirectEnv) -> None:
    await env.netbox.require()
    [field] = await asyncio.to_thread(env.peer.found, "/api/extras/custom-fields/?name=lastmile_key")
    await asyncio.to_thread(env.peer.send, "DELETE", f"/api/extras/custom-fields/{field['id']}/")
    run = await lastmile.start(order(orders))
    failure = await retrying(run, "allocate_ip_address")
    assert failure.application_failure_info.type == "NetBoxNotReadyError"
    assert "lastmile netbox setup" in failure.message
    await set_up(env.netbox.wire, await check(env.netbox.wire))
    result = await run.result()
    assert result.status is ResultStatus.COMPLETED
    assert await env.agree(whole_lines=True) == [result.created.ipv6_prefix]


async def test_order_waits_for_an_outage_longer_than_all_attempts(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults
) -> None:
    attempts = 0

    async def away() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= MORE_THAN_ALL:
            pause = timedelta(milliseconds=1)
            raise ApplicationError(
                "away", activity.info().attempt, OUTAGE, type="NetBoxNotReadyError", next_retry_delay=pause
            )

    faults.before["allocate_ip_address"] = away
    result = await lastmile.execute(order(orders))
    assert result.status is ResultStatus.COMPLETED
    [step] = [one for one in result.steps if one.step == "allocate_ip_address"]
    assert step.attempts == attempts > MORE_THAN_ALL
    assert await env.agree(whole_lines=True) == [result.created.ipv6_prefix]


async def test_cancel_during_an_attempt_ends_the_wait_for_an_outage(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults
) -> None:
    """The attempt fails after the cancel request, like an attempt that waits for a silent NetBox."""
    nothing = await what_is_there(env.owner)
    at_work = Gate()

    async def away() -> None:
        if not activity.info().is_local:
            await at_work()
        raise ApplicationError("away", activity.info().attempt, OUTAGE, type="NetBoxNotReadyError")

    faults.before["allocate_ip_address"] = away
    run = await lastmile.start(order(orders))
    await at_work.reached.wait()
    await run.handle.cancel()
    await cancel_requested(run, "allocate_ip_address")
    at_work.open()

    result = await run.result()
    assert (result.status, result.reason) == (ResultStatus.ROLLED_BACK, "cancelled")
    assert await what_is_there(env.owner) == nothing
    assert await env.agree(whole_lines=True) == []


async def test_release_refused_by_netbox_parks_and_continues(
    lastmile: Lastmile, orders: Orders, env: DirectEnv
) -> None:
    """The revocation has completed by then, without NetBox."""
    await lastmile.execute(order(orders))
    refusal = Fault(failure=HttpError(400, {"__all__": ["descriptions begin with a site"]}))
    env.server.faults.chance(refusal, 1, method="PATCH")
    run = await lastmile.start(orders.deprovision())
    progress = await parked(run)
    assert progress.step == "release_ip_address"
    assert await env.owner.fetchval("SELECT count(*) FROM radreply") == 0
    env.server.faults.clear()
    await lastmile.decide("acme", orders.ref, "retry_step", Decision(by="noc", why="the rule was changed"))
    assert (await run.result()).status is ResultStatus.COMPLETED
    assert await env.agree(whole_lines=True) == []


async def test_provision_from_a_deleted_pool_prefix_is_rolled_back(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults
) -> None:
    gate = faults.before["allocate_ip_address"] = Gate()
    run = await lastmile.start(order(orders))
    await gate.reached.wait()
    home = await env.owner.fetchval("SELECT netbox_prefix_id FROM pools WHERE name = 'netbox'")
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{home}/")
    gate.open()

    result = await run.result()

    assert result.status is ResultStatus.ROLLED_BACK
    assert result.reason == (
        f"allocate_ip_address: pool netbox ({SPACE}) is prefix {home} in NetBox, which is {NOT_VISIBLE}. "
        "Restore it there, then run `lastmile pool add` "
        "again, just as before"
    )
    assert outcomes(result)["allocate_ip_address"] == "failed"
    assert await env.agree(whole_lines=True) == []


async def test_cleanup_finishes_a_stuck_release_in_netbox(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults, maintenance: Maintenance
) -> None:
    await lastmile.execute(order(orders))
    faults.before["release_ip_address"] = refused
    run = await lastmile.start(orders.deprovision())
    await parked(run)
    await lastmile.decide("acme", orders.ref, "abandon", Decision(by="noc-7", why="ticket 4711"))
    with pytest.raises(WorkflowFailureError):
        await run.handle.result()

    result = await maintenance.cleanup(AT_ONCE)

    assert (result.revoking_completed, result.errors) == (1, 0)
    assert [one["status"] for one in env.records()] == ["deprecated"]
    assert await env.owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL") == 0


async def test_cleanup_finishes_a_revocation_without_netbox(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, faults: Faults, maintenance: Maintenance
) -> None:
    await lastmile.execute(order(orders))
    await env.owner.execute("UPDATE delegations SET state = 'revoking'")
    env.server.faults.chance(proxy(503), 1)

    result = await maintenance.cleanup(AT_ONCE)

    assert (result.revoking_completed, result.netbox_removed) == (1, 0)
    env.server.faults.clear()
    await env.owner.execute("UPDATE netbox_removals SET due_at = now()")
    assert (await maintenance.cleanup()).netbox_removed == 1
    assert env.records() == []


async def test_cleanup_with_one_failed_removal_removes_the_others(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, maintenance: Maintenance
) -> None:
    for nth in range(3):
        await lastmile.execute(order(orders, f"O-{nth}", nth))
    for nth in range(3):
        ref = orders.provision("O", nth).subscriber_ref
        await lastmile.execute(orders.deprovision(f"D-{nth}", subscriber_ref=ref))
    await env.owner.execute("UPDATE netbox_removals SET due_at = now()")
    assert (await maintenance.cleanup(Cleanup(dry_run=True))).netbox_removed == 3
    first = await env.owner.fetchval("SELECT netbox_id FROM netbox_removals ORDER BY due_at, allocation_key LIMIT 1")
    env.server.faults.chance(POSTGRES_DOWN, 1, method="DELETE", path=f"/{first}/")

    result = await maintenance.cleanup()

    assert (result.netbox_removed, result.errors) == (2, 1)
    assert [one["id"] for one in env.records()] == [first]
    env.server.faults.clear()
    assert (await maintenance.cleanup()).netbox_removed == 1
    assert env.records() == []


async def test_audit_reports_a_record_missing_in_netbox(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, maintenance: Maintenance
) -> None:
    await lastmile.execute(order(orders))
    assert (await maintenance.audit()).violations == {}
    [record] = env.records()
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{record['id']}/")

    assert (await maintenance.audit()).violations == {"not_in_netbox": 1}
    found = await env.owner.fetchval("SELECT violations FROM audit_findings WHERE invariant = 'not_in_netbox'")
    assert (found, env.records()) == (1, []), "reported and not repaired"


async def test_audit_without_netbox_names_the_failed_comparison(
    lastmile: Lastmile, orders: Orders, env: DirectEnv, maintenance: Maintenance, faults: Faults
) -> None:
    faults.before["compare_with_netbox"] = refused
    with pytest.raises(WorkflowFailureError) as failure:
        await maintenance.audit()
    assert "not done, and left to the next run: compare with NetBox" in str(failure.value.cause)
