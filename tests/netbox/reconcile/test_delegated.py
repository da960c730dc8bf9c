"""Reconciliation of delegated pools: changes of blocks and prefixes by other users are repaired."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from ipam.modes import ReportingScope
from ipam.netbox.delegated.blocks import MAINTENANCE_LOCK
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.netbox.records import KEY, STATE, SUBSCRIBER, USED
from lastmile.db.advisory_lock import exclusive
from lastmile.devstack.netbox import NetBoxServer
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import PREFIXES
from tests.support.reconciliation import found, kinds, repaired

FIRST, SECOND = "2001:db8:4000::/56", "2001:db8:4000:100::/56"
BLOCK = "2001:db8:4000::/52"


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DelegatedEnv]:
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


async def two_lines(env: DelegatedEnv, record: ReportingScope) -> None:
    """Provision two subscribers, release the second prefix, report everything, and compare once."""
    await env.pool(record=record)
    await env.provision()
    await env.provision("S-2", "O-2")
    await env.deprovision("S-2", "D-2")
    await env.agree()
    assert await kinds(env) == []


def block(env: DelegatedEnv) -> int:
    return int(env.containers()[0]["id"])


def line(env: DelegatedEnv, n: int = 1) -> int:
    record = env.record(f"acme/S-{n}/ipv6_pd/O-{n}")
    assert record is not None
    return int(record["id"])


async def changes(env: DelegatedEnv, id: int, **attributes: Any) -> None:
    reply = await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{id}/", attributes)
    assert reply.status_code == 200, reply.text


async def other_vrf(env: DelegatedEnv) -> int:
    return int((await asyncio.to_thread(env.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"])


Breaking = Callable[[DelegatedEnv], Awaitable[None]]


async def block_deleted(env: DelegatedEnv) -> None:
    await env.delete_in_netbox(block(env))


async def block_moved(env: DelegatedEnv) -> None:
    await changes(env, block(env), prefix="2001:db8:4000:f000::/52")


async def block_resized(env: DelegatedEnv) -> None:
    await changes(env, block(env), prefix="2001:db8:4000::/50")


async def block_in_another_vrf(env: DelegatedEnv) -> None:
    await changes(env, block(env), vrf=await other_vrf(env))


async def block_status(env: DelegatedEnv) -> None:
    await changes(env, block(env), status="active")


async def block_figures(env: DelegatedEnv) -> None:
    await changes(env, block(env), custom_fields={USED: 7})


async def block_tenant(env: DelegatedEnv) -> None:
    await changes(env, block(env), tenant={"slug": "other"})


BLOCKS: list[tuple[Breaking, DifferenceKind, str]] = [
    (block_deleted, DifferenceKind.MISSING, "a block of pool home: NetBox shows no record of it"),
    (block_moved, DifferenceKind.MOVED, "a block of pool home: its record #2 is 2001:db8:4000:f000::/52"),
    (block_resized, DifferenceKind.MOVED, "a block of pool home: its record #2 is 2001:db8:4000::/50"),
    (
        block_in_another_vrf,
        DifferenceKind.MOVED,
        "a block of pool home: its record #2 is 2001:db8:4000::/52, in another VRF",
    ),
    (block_status, DifferenceKind.DRIFT, "a block of pool home: status active => container"),
    (block_figures, DifferenceKind.DRIFT, "a block of pool home: used 7 => 2"),
    (block_tenant, DifferenceKind.DRIFT, "a block of pool home: tenant other => acme"),
]


@pytest.mark.parametrize("record", list(ReportingScope))
@pytest.mark.parametrize(("by", "kind", "words"), BLOCKS)
async def test_change_of_a_block_by_another_user_is_repaired(
    env: DelegatedEnv, record: ReportingScope, by: Breaking, kind: DifferenceKind, words: str
) -> None:
    await two_lines(env, record)
    await by(env)
    [one] = await found(env)
    assert (one.kind, one.subject, one.words, one.repairable) == (kind, BLOCK, words, True)
    assert await kinds(env, everything=True) == [(kind, BLOCK)]
    assert await repaired(env) == [""]
    await env.agree()


async def line_deleted(env: DelegatedEnv) -> None:
    await env.delete_in_netbox(line(env))


async def rest_deleted(env: DelegatedEnv) -> None:
    await env.delete_in_netbox(line(env, 2))


async def line_moved(env: DelegatedEnv) -> None:
    await changes(env, line(env), prefix="2001:db8:4000:700::/56")


async def line_resized(env: DelegatedEnv) -> None:
    await changes(env, line(env), prefix="2001:db8:4000::/64")


async def line_in_another_vrf(env: DelegatedEnv) -> None:
    await changes(env, line(env), vrf=await other_vrf(env))


async def line_status(env: DelegatedEnv) -> None:
    await changes(env, line(env), status="reserved")


async def line_tenant(env: DelegatedEnv) -> None:
    await changes(env, line(env), tenant=None)


async def line_state(env: DelegatedEnv) -> None:
    await changes(env, line(env), custom_fields={STATE: "failed"})


async def line_subscriber(env: DelegatedEnv) -> None:
    await changes(env, line(env), custom_fields={SUBSCRIBER: "S-9"})


async def line_tag(env: DelegatedEnv) -> None:
    await changes(env, line(env), tags=[])


async def line_restored(env: DelegatedEnv) -> None:
    """The restored record has the key and another id."""
    await env.delete_in_netbox(line(env))
    await by_script(env, FIRST, "acme/S-1/ipv6_pd/O-1", "active")


async def line_twice(env: DelegatedEnv) -> None:
    await not_unique(env, KEY)
    await asyncio.to_thread(env.peer.send, "PATCH", f"/api/ipam/vrfs/{env.vrf}/", {"enforce_unique": False})
    await by_script(env, FIRST, "acme/S-1/ipv6_pd/O-1", "active")


async def line_left_by_somebody_gone(env: DelegatedEnv) -> None:
    """A record of the prefix's former holder appears again."""
    await env.begin("S-3", "O-3")
    prefix = await env.allocate("S-3", "O-3")
    await env.finish("S-3", "O-3")
    await env.deprovision("S-3", "D-3")
    await env.owner.execute("UPDATE slots SET free_at = now() WHERE free_at < 'infinity' AND last_holder LIKE '%S-3%'")
    await env.owner.execute("UPDATE netbox_records SET due_at = now() WHERE slot = 2")
    await env.maintain()
    await by_script(env, prefix, "acme/S-3/ipv6_pd/O-3", "active")


async def not_unique(env: DelegatedEnv, field: str) -> None:
    [one] = env.peer.found(f"/api/extras/custom-fields/?name={field}")
    await asyncio.to_thread(env.peer.send, "PATCH", f"/api/extras/custom-fields/{one['id']}/", {"unique": False})


async def by_script(env: DelegatedEnv, prefix: str, key: str, state: str) -> None:
    fields = {KEY: key, SUBSCRIBER: key.split("/")[1], STATE: state}
    body = {"prefix": prefix, "vrf": env.vrf, "custom_fields": fields, "tags": [{"slug": "lastmile"}]}
    await asyncio.to_thread(env.peer.create, PREFIXES, **body)


LINES: list[tuple[Breaking, DifferenceKind, str, str]] = [
    (line_deleted, DifferenceKind.MISSING, FIRST, "S-1's, active: NetBox shows no record of it"),
    (rest_deleted, DifferenceKind.MISSING, SECOND, "S-2's, in quarantine: NetBox shows no record of it"),
    (line_moved, DifferenceKind.MOVED, FIRST, "S-1's, active: its record #3 is 2001:db8:4000:700::/56"),
    (line_resized, DifferenceKind.MOVED, FIRST, "S-1's, active: its record #3 is 2001:db8:4000::/64"),
    (line_in_another_vrf, DifferenceKind.MOVED, FIRST, f"S-1's, active: its record #3 is {FIRST}, in another VRF"),
    (line_status, DifferenceKind.DRIFT, FIRST, "S-1's, active: status reserved => active"),
    (line_tenant, DifferenceKind.DRIFT, FIRST, "S-1's, active: tenant none => acme"),
    (line_state, DifferenceKind.DRIFT, FIRST, "S-1's, active: state failed => active"),
    (line_subscriber, DifferenceKind.DRIFT, FIRST, "S-1's, active: subscriber S-9 => S-1"),
    (line_tag, DifferenceKind.DRIFT, FIRST, "S-1's, active: tag none => lastmile"),
    (line_restored, DifferenceKind.DRIFT, FIRST, f"S-1's, active: its record is #5 ({FIRST}), not #3"),
    (line_twice, DifferenceKind.DUPLICATE, FIRST, f"S-1's, active: record #5 ({FIRST}) carries its key too, beside #3"),
    (
        line_left_by_somebody_gone,
        DifferenceKind.ORPHAN,
        "2001:db8:4000:200::/56",
        "#5 carries the key of S-3's, released, which should not be there",
    ),
]


@pytest.mark.parametrize(("by", "kind", "subject", "words"), LINES)
async def test_change_of_a_prefix_by_another_user_is_repaired(
    env: DelegatedEnv, by: Breaking, kind: DifferenceKind, subject: str, words: str
) -> None:
    await two_lines(env, ReportingScope.PREFIX)
    await by(env)
    [one] = [one for one in await found(env) if one.kind is not DifferenceKind.POOL_MOVED]
    assert (one.kind, one.subject, one.words, one.repairable) == (kind, subject, words, True)
    if by is line_twice:
        [field] = env.peer.found(f"/api/extras/custom-fields/?name={KEY}")
        await asyncio.to_thread(env.peer.send, "PATCH", f"/api/extras/custom-fields/{field['id']}/", {"unique": True})
    assert await kinds(env, everything=True) == [(kind, subject)]
    assert await repaired(env) == [""]
    await env.agree()


async def test_prefix_record_in_a_pool_that_records_blocks_is_deleted(env: DelegatedEnv) -> None:
    """The record is left from a time when the pool recorded each prefix."""
    await two_lines(env, ReportingScope.BLOCK)
    await by_script(env, FIRST, "acme/S-1/ipv6_pd/O-1", "active")
    assert await kinds(env) == [(DifferenceKind.ORPHAN, FIRST)]
    assert await repaired(env) == [""]
    assert env.records() == []
    await env.agree()


async def test_missing_record_without_an_outbox_row_is_repaired(env: DelegatedEnv) -> None:
    await two_lines(env, ReportingScope.PREFIX)
    await env.delete_in_netbox(line(env))
    await env.owner.execute("DELETE FROM netbox_records WHERE slot = 0")
    assert await kinds(env, everything=True) == [(DifferenceKind.MISSING, FIRST)]
    assert await repaired(env, everything=True) == [""]
    await env.agree()


async def test_prefix_waiting_in_the_outbox_is_no_difference(env: DelegatedEnv) -> None:
    await two_lines(env, ReportingScope.PREFIX)
    await env.lines(3, start=5)
    assert len(env.records()) == 2
    assert await kinds(env) == []
    assert await kinds(env, everything=True) == []
    await env.deprovision("S-1", "D-1")
    await changes(env, line(env), status="reserved")
    assert await kinds(env) == []
    await env.maintain()
    assert await kinds(env, everything=True) == []


async def test_deleted_record_with_its_place_occupied_is_not_repaired(env: DelegatedEnv) -> None:
    """The repair returns NetBox's refusal, and the audit reports it until it is repaired."""
    await two_lines(env, ReportingScope.PREFIX)
    await env.delete_in_netbox(line(env))
    foreign = await env.create_foreign_prefix(FIRST)
    [problem] = await repaired(env)
    assert problem == f"NetBox has a foreign record of {FIRST}: by hand"
    assert {one["id"]: one["custom_fields"].get(KEY) for one in env.records()}[foreign] is None
    await env.delete_in_netbox(foreign)
    await env.owner.execute("UPDATE netbox_records SET due_at = now()")
    await env.agree()


async def test_deleted_block_with_its_place_occupied_is_not_repaired(env: DelegatedEnv) -> None:
    await two_lines(env, ReportingScope.BLOCK)
    await block_deleted(env)
    foreign = await env.create_foreign_prefix(BLOCK)
    assert await kinds(env, everything=True) == [(DifferenceKind.MISSING, BLOCK), (DifferenceKind.OCCUPIED, BLOCK)]
    assert len([problem for problem in await repaired(env) if "Duplicate prefix found" in problem]) == 1
    await env.delete_in_netbox(foreign)
    assert await repaired(env) == [""]


async def test_unknown_block_is_not_deleted(env: DelegatedEnv) -> None:
    """It may be the only record of prefixes that a lost database had assigned."""
    await two_lines(env, ReportingScope.BLOCK)
    await by_script(env, "2001:db8:4000:1000::/52", "lastmile/block/home/9/0a1b2c3d", "")
    [one] = await found(env)
    assert (one.kind, one.repairable) == (DifferenceKind.ORPHAN, False)
    assert (await repaired(env))[0].startswith("find out who created it")


async def test_repair_of_a_block_waits_for_block_maintenance(env: DelegatedEnv, owner_url: str) -> None:
    await two_lines(env, ReportingScope.BLOCK)
    await block_moved(env)
    [one] = await found(env)
    async with exclusive(env.database, MAINTENANCE_LOCK) as ours:
        assert ours
        repairing = asyncio.create_task(repaired(env))
        done, _ = await asyncio.wait([repairing], timeout=1)
        assert not done
        assert env.containers()[0]["prefix"] != BLOCK
    assert await repairing == [""]
    assert env.containers()[0]["prefix"] == str(one.subject)
