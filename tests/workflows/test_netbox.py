"""Whole orders, with a pool that NetBox chooses from: however a run goes, NetBox and the database agree in the end."""

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
from lastmile.devstack.netbox.faults import LOST, POSTGRES_DOWN, Fault, proxy
from lastmile.devstack.netbox.http_errors import HttpError
from lastmile.devstack.netbox.versions import V4_4, V4_6
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.direct_env import PREFIXES, SPACE, VRF, Kept
from tests.support.faults import Faults, Gate, broken, once, refused
from tests.support.held_requests import Held
from tests.support.maintenance import AT_ONCE, Maintenance
from tests.support.orders import Orders, cancel_requested, outcomes, parked, retrying, what_is_there
from workflows.step_activity import PATIENCE

PROVISION = [step.name for step in operations.PROVISION.steps]
REQUIRED = [step.name for step in operations.PROVISION.steps if not step.best_effort]
DEPROVISION = [step.name for step in operations.DEPROVISION.steps]
MORE_THAN_ALL = 2 * PATIENCE[CallKind.IPAM].attempts
PIVOT = pivot_of(operations.DEPROVISION.steps)


@pytest.fixture
async def kept(
    request: pytest.FixtureRequest, database: Database, owner: asyncpg.Connection, authorization: DynamicAuthorization
) -> AsyncIterator[Kept]:
    with NetBoxServer(version=getattr(request, "param", V4_4)) as server:
        async with NetBox(server.url, server.token) as netbox:
            kept = Kept(server, netbox, database, owner, authorization)
            await kept.set_up()
            await kept.pool(SPACE, "kept")
            yield kept


@pytest.fixture
async def worker(
    client: Client, settings: Settings, database: Database, authorization: DynamicAuthorization, kept: Kept
) -> AsyncIterator[Worker]:
    async with build_worker(client, settings, database, authorization, netbox=kept.netbox) as worker:
        yield worker


def order(orders: Orders, order_id: str = "O-1", nth: int = 0) -> ProvisionSubscriber:
    return orders.provision(order_id, nth, addressing=Addressing(ipv6_pool="kept", vrf=VRF))


@pytest.mark.parametrize("kept", [V4_4, V4_6], indirect=True, ids=["4.4", "4.6"])
async def test_a_line_comes_and_goes(lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults) -> None:
    result = await lastmile.execute(order(orders))
    assert (result.status, result.created.ipv6_prefix) == (ResultStatus.COMPLETED, "2001:db8:4000::/56")
    assert {step.attempts for step in result.steps} == {1}, "a step that declines to be local has not failed"
    assert await kept.agree(whole_lines=True) == ["2001:db8:4000::/56"]

    result = await lastmile.execute(orders.deprovision())
    assert result.status is ResultStatus.COMPLETED
    assert await kept.agree(whole_lines=True) == []
    assert [one["status"] for one in kept.records()] == ["deprecated"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", [refused, broken], ids=["refused", "broken"])
async def test_a_provision_that_fails_anywhere_leaves_nothing(
    lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults, fault: Any, when: str
) -> None:
    nothing = await what_is_there(kept.owner)
    setattr(faults, when, {(f"O-{step}", step): fault for step in REQUIRED})
    sent = [order(orders, f"O-{step}", nth) for nth, step in enumerate(REQUIRED)]

    results = await asyncio.gather(*(lastmile.execute(one) for one in sent))

    assert {result.status for result in results} == {ResultStatus.ROLLED_BACK}
    assert await what_is_there(kept.owner) == nothing
    assert await kept.agree(whole_lines=True) == []
    await kept.everything_is_due()
    assert kept.records() == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_provision_cancelled_anywhere_leaves_nothing(
    lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults, when: str
) -> None:
    nothing = await what_is_there(kept.owner)
    gates = {(f"O-{step}", step): Gate() for step in PROVISION}
    setattr(faults, when, gates)
    runs = [await lastmile.start(order(orders, f"O-{step}", nth)) for nth, step in enumerate(PROVISION)]
    for run, gate in zip(runs, gates.values(), strict=True):
        await gate.reached.wait()
        await run.handle.cancel()
        gate.open()

    assert {(await run.result()).status for run in runs} == {ResultStatus.ROLLED_BACK}
    assert await what_is_there(kept.owner) == nothing
    assert await kept.agree(whole_lines=True) == []


async def test_a_cancel_while_netbox_works_leaves_nothing(lastmile: Lastmile, orders: Orders, kept: Kept) -> None:
    nothing = await what_is_there(kept.owner)
    allocation = Held(kept.server)
    run = await lastmile.start(order(orders))
    await allocation.reached()
    await run.handle.cancel()
    allocation.go_on()

    assert (await run.result()).status is ResultStatus.ROLLED_BACK
    assert await what_is_there(kept.owner) == nothing
    assert await kept.agree(whole_lines=True) == []


async def test_every_step_done_and_its_reply_lost(
    lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults
) -> None:
    """By Temporal, and by NetBox too."""
    faults.after = dict.fromkeys([*PROVISION, *DEPROVISION], once(broken))
    for method in ("POST", "PATCH"):
        kept.server.faults.next(LOST, method=method)
    result = await lastmile.execute(order(orders))
    assert result.status is ResultStatus.COMPLETED
    assert await kept.agree(whole_lines=True) == [result.created.ipv6_prefix]
    kept.server.faults.next(LOST, method="PATCH")
    assert (await lastmile.execute(orders.deprovision())).status is ResultStatus.COMPLETED
    assert await kept.agree(whole_lines=True) == []


@pytest.mark.parametrize("step", DEPROVISION[:PIVOT])
async def test_a_deprovision_that_fails_before_its_pivot_changes_nothing(
    lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults, step: str
) -> None:
    prefix = (await lastmile.execute(order(orders))).created.ipv6_prefix
    faults.after[step] = refused
    assert (await lastmile.execute(orders.deprovision())).status is ResultStatus.ROLLED_BACK
    assert await kept.agree(whole_lines=True) == [prefix]


async def test_netbox_away_for_a_while_is_waited_for(lastmile: Lastmile, orders: Orders, kept: Kept) -> None:
    kept.server.stop()
    run = await lastmile.start(order(orders))
    while True:
        if await kept.owner.fetchval("SELECT count(*) FROM delegations WHERE state = 'pending'"):
            break
        await asyncio.sleep(0.02)  # nobody is told
    kept.server.start()
    result = await run.result()
    assert result.status is ResultStatus.COMPLETED
    assert await kept.agree(whole_lines=True) == [result.created.ipv6_prefix]


@pytest.mark.parametrize(
    ("refused_by", "accepted_by"),
    [
        ({"enabled": False}, {"enabled": True}),
        ({"expires": "2020-01-01T00:00:00+00:00"}, {"expires": None}),
        ({"write_enabled": False}, {"write_enabled": True}),
    ],
    ids=["disabled", "expired", "read-only"],
)
async def test_an_order_waits_until_netbox_accepts_the_token(
    lastmile: Lastmile, orders: Orders, kept: Kept, refused_by: dict[str, Any], accepted_by: dict[str, Any]
) -> None:
    kept.change_token(**refused_by)
    run = await lastmile.start(order(orders))
    failure = await retrying(run, "allocate_ip_address")
    assert failure.application_failure_info.type == "NetBoxAuthorizationError"
    kept.change_token(**accepted_by)
    result = await run.result()
    assert result.status is ResultStatus.COMPLETED
    assert await kept.agree(whole_lines=True) == [result.created.ipv6_prefix]


@pytest.mark.parametrize("kept", [V4_6], indirect=True, ids=["4.6"])
async def test_an_order_waits_until_netbox_is_set_up(lastmile: Lastmile, orders: Orders, kept: Kept) -> None:
    await kept.netbox.require()
    [field] = await asyncio.to_thread(kept.peer.found, "/api/extras/custom-fields/?name=lastmile_key")
    await asyncio.to_thread(kept.peer.send, "DELETE", f"/api/extras/custom-fields/{field['id']}/")
    run = await lastmile.start(order(orders))
    failure = await retrying(run, "allocate_ip_address")
    assert failure.application_failure_info.type == "NetBoxNotReadyError"
    assert "lastmile netbox setup" in failure.message
    await set_up(kept.netbox.wire, await check(kept.netbox.wire))
    result = await run.result()
    assert result.status is ResultStatus.COMPLETED
    assert await kept.agree(whole_lines=True) == [result.created.ipv6_prefix]


async def test_an_outage_longer_than_all_attempts_is_waited_for(
    lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults
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
    assert await kept.agree(whole_lines=True) == [result.created.ipv6_prefix]


async def test_a_cancel_during_an_attempt_ends_the_wait_for_an_outage(
    lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults
) -> None:
    """The attempt fails after the cancel was asked for, as one does that waits for a NetBox that does not answer."""
    nothing = await what_is_there(kept.owner)
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
    assert await what_is_there(kept.owner) == nothing
    assert await kept.agree(whole_lines=True) == []


async def test_a_release_that_netbox_refuses_parks_and_goes_on(lastmile: Lastmile, orders: Orders, kept: Kept) -> None:
    """The revocation is done by then: it does not wait for NetBox."""
    await lastmile.execute(order(orders))
    refusal = Fault(failure=HttpError(400, {"__all__": ["descriptions begin with a site"]}))
    kept.server.faults.chance(refusal, 1, method="PATCH")
    run = await lastmile.start(orders.deprovision())
    progress = await parked(run)
    assert progress.step == "release_ip_address"
    assert await kept.owner.fetchval("SELECT count(*) FROM radreply") == 0
    kept.server.faults.clear()
    await lastmile.decide("acme", orders.ref, "retry_step", Decision(by="noc", why="the rule was changed"))
    assert (await run.result()).status is ResultStatus.COMPLETED
    assert await kept.agree(whole_lines=True) == []


async def test_a_pool_prefix_deleted_by_hand_during_a_provision(
    lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults
) -> None:
    gate = faults.before["allocate_ip_address"] = Gate()
    run = await lastmile.start(order(orders))
    await gate.reached.wait()
    home = await kept.owner.fetchval("SELECT netbox_prefix_id FROM pools WHERE name = 'kept'")
    await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{home}/")
    gate.open()

    result = await run.result()

    assert result.status is ResultStatus.ROLLED_BACK
    assert result.reason == (
        f"allocate_ip_address: pool kept ({SPACE}) is prefix {home} in NetBox, which is {NOT_VISIBLE}. "
        "Restore it there, then run `lastmile pool add` "
        "again, just as before"
    )
    assert outcomes(result)["allocate_ip_address"] == "failed"
    assert await kept.agree(whole_lines=True) == []


async def test_the_cleanup_finishes_what_is_stuck_in_netbox_too(
    lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults, maintenance: Maintenance
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
    assert [one["status"] for one in kept.records()] == ["deprecated"]
    assert await kept.owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL") == 0


async def test_the_cleanup_does_not_wait_for_netbox_to_finish_what_is_stuck(
    lastmile: Lastmile, orders: Orders, kept: Kept, faults: Faults, maintenance: Maintenance
) -> None:
    await lastmile.execute(order(orders))
    await kept.owner.execute("UPDATE delegations SET state = 'revoking'")
    kept.server.faults.chance(proxy(503), 1)

    result = await maintenance.cleanup(AT_ONCE)

    assert (result.revoking_completed, result.netbox_removed) == (1, 0)
    kept.server.faults.clear()
    await kept.owner.execute("UPDATE netbox_removals SET due_at = now()")
    assert (await maintenance.cleanup()).netbox_removed == 1
    assert kept.records() == []


async def test_the_cleanup_removes_what_has_rested_and_one_that_stays_holds_up_no_other(
    lastmile: Lastmile, orders: Orders, kept: Kept, maintenance: Maintenance
) -> None:
    for nth in range(3):
        await lastmile.execute(order(orders, f"O-{nth}", nth))
    for nth in range(3):
        ref = orders.provision("O", nth).subscriber_ref
        await lastmile.execute(orders.deprovision(f"D-{nth}", subscriber_ref=ref))
    await kept.owner.execute("UPDATE netbox_removals SET due_at = now()")
    assert (await maintenance.cleanup(Cleanup(dry_run=True))).netbox_removed == 3
    first = await kept.owner.fetchval("SELECT netbox_id FROM netbox_removals ORDER BY due_at, allocation_key LIMIT 1")
    kept.server.faults.chance(POSTGRES_DOWN, 1, method="DELETE", path=f"/{first}/")

    result = await maintenance.cleanup()

    assert (result.netbox_removed, result.errors) == (2, 1)
    assert [one["id"] for one in kept.records()] == [first]
    kept.server.faults.clear()
    assert (await maintenance.cleanup()).netbox_removed == 1
    assert kept.records() == []


async def test_the_audit_compares_with_netbox(
    lastmile: Lastmile, orders: Orders, kept: Kept, maintenance: Maintenance
) -> None:
    await lastmile.execute(order(orders))
    assert (await maintenance.audit()).violations == {}
    [record] = kept.records()
    await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{record['id']}/")

    assert (await maintenance.audit()).violations == {"not_in_netbox": 1}
    found = await kept.owner.fetchval("SELECT violations FROM audit_findings WHERE invariant = 'not_in_netbox'")
    assert (found, kept.records()) == (1, []), "told, and left to a person"


async def test_the_audit_says_that_netbox_could_not_be_asked(
    lastmile: Lastmile, orders: Orders, kept: Kept, maintenance: Maintenance, faults: Faults
) -> None:
    faults.before["compare_with_netbox"] = refused
    with pytest.raises(WorkflowFailureError) as failure:
        await maintenance.audit()
    assert "not done, and left to the next run: compare with NetBox" in str(failure.value.cause)
