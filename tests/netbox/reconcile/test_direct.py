"""Reconciliation of direct pools: every change by another user of NetBox is found, and repaired where possible."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from ipam.modes import OnRelease
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.records import KEY, STATE, SUBSCRIBER
from ipam.netbox.requirements import NOT_VISIBLE
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import LOST
from tests.support.direct_env import AVAILABLE, PREFIXES, SPACE, DirectEnv, refusal
from tests.support.reconciliation import found, kinds, repaired

KEY_1 = "acme/S-1/ipv6_pd/O-1"
FIRST, SECOND, THIRD = (f"2001:db8:4000:{n}00::/56" if n else "2001:db8:4000::/56" for n in range(3))


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DirectEnv]:
    async with DirectEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


class NetBoxUser:
    """Another user of NetBox, or a script."""

    def __init__(self, env: DirectEnv) -> None:
        self._kept = env

    def record(self, n: int = 1) -> int:
        record = self._kept.record(f"acme/S-{n}/ipv6_pd/O-{n}")
        assert record is not None
        return int(record["id"])

    async def changes(self, id: int, **attributes: Any) -> None:
        reply = await asyncio.to_thread(self._kept.peer.send, "PATCH", f"{PREFIXES}{id}/", attributes)
        assert reply.status_code == 200, reply.text

    async def deletes(self, id: int) -> None:
        reply = await asyncio.to_thread(self._kept.peer.send, "DELETE", f"{PREFIXES}{id}/")
        assert reply.status_code == 204

    async def makes(self, prefix: str, **attributes: Any) -> int:
        made = await asyncio.to_thread(
            self._kept.peer.create, PREFIXES, **{"prefix": prefix, "vrf": self._kept.vrf, **attributes}
        )
        return int(made["id"])

    async def vrf(self) -> int:
        return int((await asyncio.to_thread(self._kept.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"])


@pytest.fixture
async def other_user(env: DirectEnv) -> NetBoxUser:
    """Return another user of a pool with three prefixes, the second in quarantine, after a first comparison."""
    await env.pool()
    for n in (1, 2, 3):
        await env.provision(f"S-{n}", f"O-{n}")
    await env.deprovision("S-2", "D-2")
    assert await kinds(env) == []
    return NetBoxUser(env)


async def deletes(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.deletes(other_user.record())


async def deletes_what_rests(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.deletes(other_user.record(2))


async def deletes_and_makes_it_again(env: DirectEnv, other_user: NetBoxUser) -> None:
    """A script that restores a backup does this: the record has the same key and another id."""
    await other_user.deletes(other_user.record())
    tags = [{"slug": "lastmile"}]
    await other_user.makes(FIRST, custom_fields={KEY: KEY_1, SUBSCRIBER: "S-1", STATE: "active"}, tags=tags)


async def sets_a_status(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(), status="deprecated")


async def sets_a_tenant(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(), tenant={"slug": "other"})


async def takes_the_tenant_away(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(2), tenant=None)


async def sets_a_state(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(), custom_fields={STATE: "suspended"})


async def sets_a_subscriber(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(), custom_fields={SUBSCRIBER: "S-9"})


async def takes_the_tag_away(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(), tags=[])


async def moves_it(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(), prefix="2001:db8:4000:7700::/56")


async def moves_it_out_of_the_pool(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(), prefix="2001:db8:9000::/56")


async def resizes_it(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(), prefix="2001:db8:4000::/60")


async def moves_it_to_another_vrf(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.changes(other_user.record(), vrf=await other_user.vrf())


async def makes_a_second_one(env: DirectEnv, other_user: NetBoxUser) -> None:
    """NetBox does not check two concurrent creations against each other; here the field is not unique for a moment."""
    fields = env.peer.found(f"/api/extras/custom-fields/?name={KEY}")
    for unique in (False, True):
        if not unique:
            await asyncio.to_thread(
                env.peer.send, "PATCH", f"/api/extras/custom-fields/{fields[0]['id']}/", {"unique": False}
            )
            fields_1 = {KEY: KEY_1, SUBSCRIBER: "S-1", STATE: "active"}
            await other_user.makes("2001:db8:4000:8800::/56", custom_fields=fields_1, tags=[{"slug": "lastmile"}])
        else:
            await asyncio.to_thread(
                env.peer.send, "PATCH", f"/api/extras/custom-fields/{fields[0]['id']}/", {"unique": True}
            )


async def lets_netbox_do_late_what_nobody_waits_for(env: DirectEnv, other_user: NetBoxUser) -> None:
    """NetBox creates the prefix of a rolled-back order after the last search for the key."""
    await env.begin("S-4", "O-4")
    env.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(env.allocate("S-4", "O-4"))
    late = env.record("acme/S-4/ipv6_pd/O-4")
    assert late is not None
    await env.undo("S-4", "O-4")
    await env.close("S-4", "O-4", "rolled_back")
    await env.owner.execute("DELETE FROM netbox_removals WHERE prefix IS NULL")
    fields = {KEY: "acme/S-4/ipv6_pd/O-4", SUBSCRIBER: "S-4", STATE: "allocated"}
    await other_user.makes("2001:db8:4000:300::/56", custom_fields=fields, tags=[{"slug": "lastmile"}])


By = Callable[[DirectEnv, NetBoxUser], Awaitable[None]]


@pytest.mark.parametrize(
    ("by", "kind", "subject", "words"),
    [
        (deletes, DifferenceKind.MISSING, FIRST, "S-1's, active: NetBox shows no record of it"),
        (deletes_what_rests, DifferenceKind.MISSING, SECOND, "S-2's, in quarantine: NetBox shows no record of it"),
        (deletes_and_makes_it_again, DifferenceKind.DRIFT, FIRST, f"S-1's, active: its record is #5 ({FIRST}), not #2"),
        (sets_a_status, DifferenceKind.DRIFT, FIRST, "S-1's, active: status deprecated => active"),
        (sets_a_tenant, DifferenceKind.DRIFT, FIRST, "S-1's, active: tenant other => acme"),
        (takes_the_tenant_away, DifferenceKind.DRIFT, SECOND, "S-2's, in quarantine: tenant none => acme"),
        (sets_a_state, DifferenceKind.DRIFT, FIRST, "S-1's, active: state suspended => active"),
        (sets_a_subscriber, DifferenceKind.DRIFT, FIRST, "S-1's, active: subscriber S-9 => S-1"),
        (takes_the_tag_away, DifferenceKind.DRIFT, FIRST, "S-1's, active: tag none => lastmile"),
        (moves_it, DifferenceKind.MOVED, FIRST, "S-1's, active: its record #2 is 2001:db8:4000:7700::/56"),
        (moves_it_out_of_the_pool, DifferenceKind.MOVED, FIRST, "S-1's, active: its record #2 is 2001:db8:9000::/56"),
        (resizes_it, DifferenceKind.MOVED, FIRST, "S-1's, active: its record #2 is 2001:db8:4000::/60"),
        (
            moves_it_to_another_vrf,
            DifferenceKind.MOVED,
            FIRST,
            f"S-1's, active: its record #2 is {FIRST}, in another VRF",
        ),
        (
            makes_a_second_one,
            DifferenceKind.DUPLICATE,
            FIRST,
            "S-1's, active: record #5 (2001:db8:4000:8800::/56) carries its key too, beside #2",
        ),
        (
            lets_netbox_do_late_what_nobody_waits_for,
            DifferenceKind.ORPHAN,
            "2001:db8:4000:300::/56",
            "#6 carries the key of S-4's, released, which should not be there",
        ),
    ],
)
async def test_change_by_another_user_is_found_and_repaired(
    env: DirectEnv, other_user: NetBoxUser, by: By, kind: DifferenceKind, subject: str, words: str
) -> None:
    await by(env, other_user)
    [one] = await found(env)
    assert (one.kind, one.subject, one.words, one.repairable) == (kind, subject, words, True)
    assert await kinds(env) == [(kind, subject)], "the next comparison inspects it again"
    assert await kinds(env, everything=True) == [(kind, subject)]
    assert await repaired(env) == [""]
    await env.agree()


async def test_repaired_prefix_is_released_as_usual(env: DirectEnv, other_user: NetBoxUser) -> None:
    for n in (1, 2):
        await other_user.deletes(other_user.record(n))
    assert await repaired(env) == ["", ""]
    await env.deprovision("S-1", "D-1")
    assert await env.agree() == [THIRD]
    await env.end_quarantines()
    assert await env.agree() == [THIRD]
    assert len(env.records()) == 1


async def test_change_that_was_not_reported_is_found(env: DirectEnv, other_user: NetBoxUser) -> None:
    """`lastmile audit --repair` does this: it activates the delegation of a finished order."""
    await env.begin("S-4", "O-4")
    prefix = await env.allocate("S-4", "O-4")
    await env.close("S-4", "O-4", "degraded")
    assert await kinds(env) == []
    # After every change that NetBox knows.
    await env.owner.execute("UPDATE netbox_comparisons SET since = now() + interval '1 hour'")
    change = "SET state = 'active', state_since = now() + interval '2 hours'"
    await env.owner.execute(f"UPDATE delegations {change} WHERE subscriber_ref = 'S-4'")
    [one] = await found(env)
    assert (one.kind, one.words) == (
        DifferenceKind.DRIFT,
        "S-4's, active: state allocated => active, status reserved => active",
    )
    assert await repaired(env) == [""]
    record = env.record("acme/S-4/ipv6_pd/O-4")
    assert record is not None
    assert (record["prefix"], record["status"]) == (prefix, "active")


# Differences that an operator must resolve


async def test_foreign_prefix_over_a_subscribers_is_not_repairable(env: DirectEnv, other_user: NetBoxUser) -> None:
    foreign = await other_user.makes("2001:db8:4000:0:100::/72", description="lab")
    [one] = await found(env)
    assert (one.kind, one.subject, one.repairable) == (DifferenceKind.OCCUPIED, "2001:db8:4000:0:100::/72", False)
    assert one.words == f"lab (#{foreign}), a foreign prefix: S-1 holds {FIRST}"
    assert "deprovision the subscriber" in (await repaired(env))[0]
    await other_user.deletes(foreign)
    assert await kinds(env) == []


async def test_foreign_prefixes_beside_subscribers_are_no_difference(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.makes("2001:db8:4000:f000::/52", description="lab")
    await other_user.makes("2001:db8:4000::/48", description="region north", status="container")
    assert await kinds(env) == []
    assert await kinds(env, everything=True) == []


async def test_record_taken_over_by_another_user_is_missing(env: DirectEnv, other_user: NetBoxUser) -> None:
    """The foreign record occupies the prefix. After its deletion the repair creates the expected record again."""
    id = other_user.record()
    await other_user.changes(id, custom_fields={KEY: None, SUBSCRIBER: None, STATE: None}, description="mine", tags=[])
    [one] = await found(env)
    assert (one.kind, one.words) == (
        DifferenceKind.MISSING,
        f"S-1's, active: another user has taken over its record #{id}",
    )
    assert await repaired(env) == [f"NetBox has a foreign record of {FIRST}: mine (#{id})"]
    assert len([one for one in env.records() if one["prefix"] == FIRST]) == 1
    await other_user.deletes(id)
    assert await repaired(env) == [""]
    await env.agree()


async def test_moved_record_with_its_place_occupied_is_not_repaired(env: DirectEnv, other_user: NetBoxUser) -> None:
    await moves_it(env, other_user)
    foreign = await other_user.makes(FIRST, description="lab")
    assert (DifferenceKind.MOVED, FIRST) in await kinds(env)
    problems = await repaired(env)
    assert f"NetBox has a foreign record of {FIRST}: lab (#{foreign})" in problems


async def test_missing_record_with_its_prefix_assigned_again_is_not_repaired(
    env: DirectEnv, other_user: NetBoxUser
) -> None:
    await other_user.deletes(other_user.record(2))
    assert await env.provision("S-4", "O-4") == SECOND
    [problem] = await repaired(env)
    assert problem.startswith(f"NetBox has a foreign record of {SECOND}: is S-4's (Lastmile)")


async def test_record_with_an_unknown_key_is_not_deleted(env: DirectEnv, other_user: NetBoxUser) -> None:
    """The database may have been restored from an older backup, so the record is not deleted."""
    fields = {KEY: "acme/S-7/ipv6_pd/O-7", SUBSCRIBER: "S-7", STATE: "active"}
    foreign = await other_user.makes("2001:db8:4000:700::/56", custom_fields=fields, tags=[{"slug": "lastmile"}])
    [one] = await found(env)
    assert (one.kind, one.repairable) == (DifferenceKind.ORPHAN, False)
    assert "which this database does not know" in one.words
    assert (await repaired(env))[0].startswith("find out who created it")
    assert env.record("acme/S-7/ipv6_pd/O-7") is not None
    await other_user.deletes(foreign)


async def test_record_of_another_lastmile_is_no_difference(env: DirectEnv, other_user: NetBoxUser) -> None:
    fields = {KEY: "elsewhere/S-1/ipv6_pd/O-1", SUBSCRIBER: "S-1", STATE: "active"}
    await other_user.makes("2001:db8:4000:700::/56", custom_fields=fields, tags=[{"slug": "lastmile"}])
    assert await kinds(env) == []
    assert await kinds(env, everything=True) == []


async def test_foreign_prefix_with_the_tag_is_reported(env: DirectEnv, other_user: NetBoxUser) -> None:
    await other_user.makes("2001:db8:4000:700::/56", tags=[{"slug": "lastmile"}])
    [one] = await found(env)
    assert (one.kind, one.repairable) == (DifferenceKind.ORPHAN, False)
    assert "has the tag lastmile, and no key" in one.words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, f"which is {NOT_VISIBLE}"),
        ({"prefix": "2001:db8:8000::/40"}, "which has 2001:db8:8000::/40 there"),
        ({"prefix": "2001:db8:4000::/44"}, "which has 2001:db8:4000::/44 there"),
        ({"prefix": "2001:db8:4000::/44", "vrf": None}, "which has 2001:db8:4000::/44 there, in another VRF"),
    ],
)
async def test_changed_pool_prefix_is_reported(
    env: DirectEnv, other_user: NetBoxUser, change: dict[str, Any] | None, words: str
) -> None:
    pool = await env.owner.fetchval("SELECT netbox_prefix_id FROM pools")
    if change is None:
        await other_user.deletes(pool)
    else:
        await other_user.changes(pool, **change)
    [one] = await found(env)
    assert (one.kind, one.subject, one.repairable) == (DifferenceKind.POOL_MOVED, SPACE, False)
    assert one.words == f"pool home is prefix #{pool} of NetBox, {words}"
    [problem] = await repaired(env)
    assert "`lastmile pool add` again" in problem


async def test_pool_prefix_in_another_vrf_is_moved_back(env: DirectEnv, other_user: NetBoxUser) -> None:
    pool = await env.owner.fetchval("SELECT netbox_prefix_id FROM pools")
    await other_user.changes(pool, vrf=await other_user.vrf())
    [one] = await found(env)
    assert (one.kind, one.subject, one.repairable) == (DifferenceKind.POOL_MOVED, SPACE, True)
    assert one.words == f"pool home is prefix #{pool} of NetBox, which has {SPACE} there, in another VRF"
    assert await repaired(env) == [""]
    assert await env.provision("S-5", "O-5") in await env.agree()


async def test_pool_prefix_with_its_place_occupied_is_not_moved_back(env: DirectEnv, other_user: NetBoxUser) -> None:
    pool = await env.owner.fetchval("SELECT netbox_prefix_id FROM pools")
    await other_user.changes(pool, vrf=await other_user.vrf())
    other = await other_user.makes(SPACE, status="container")
    [problem] = await repaired(env)
    assert problem.startswith(f"the VRF of pool home has {SPACE} already (#{other}): delete one of the two in NetBox.")
    await other_user.deletes(other)
    assert await repaired(env) == [""]


async def test_foreign_prefix_in_another_vrf_is_no_difference(env: DirectEnv, other_user: NetBoxUser) -> None:
    await kinds(env)
    foreign = await other_user.makes(FIRST, vrf=await other_user.vrf())
    await env.owner.execute("INSERT INTO netbox_pending_inspections SELECT id, $1, '2020-01-01' FROM pools", foreign)
    assert await kinds(env) == []
    assert await kinds(env, everything=True) == []


async def test_undo_removes_the_record_moved_to_another_vrf(env: DirectEnv, other_user: NetBoxUser) -> None:
    """NetBox created it for an order whose reply was lost. The undo finds it by its key, in every VRF."""
    await env.begin("S-4", "O-4")
    env.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(env.allocate("S-4", "O-4"))
    await other_user.changes(other_user.record(4), vrf=await other_user.vrf())
    assert await kinds(env, everything=True) == [], "the order runs"
    assert env.record("acme/S-4/ipv6_pd/O-4") is not None

    await env.undo("S-4", "O-4")
    await env.close("S-4", "O-4", "rolled_back")

    assert env.record("acme/S-4/ipv6_pd/O-4") is None
    assert await kinds(env, everything=True) == []


# Records in flight


async def test_record_of_an_open_order_is_no_difference(env: DirectEnv, other_user: NetBoxUser) -> None:
    await env.begin("S-4", "O-4")
    env.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(env.allocate("S-4", "O-4"))
    assert await kinds(env) == [], "made, and not known here yet"
    await env.allocate("S-4", "O-4")
    await other_user.changes(other_user.record(4), status="active")
    assert await kinds(env) == [], "the outbox will report it"
    assert await kinds(env, everything=True) == []
    await env.close("S-4", "O-4", "abandoned")
    assert await kinds(env) == [(DifferenceKind.DRIFT, "2001:db8:4000:300::/56")], "the outbox reports it no more"


@pytest.mark.parametrize("on_release", list(OnRelease))
async def test_interrupted_release_is_found_and_repaired(env: DirectEnv, on_release: OnRelease) -> None:
    """What is deleted goes within the hour, with all that is due; what should rest rests once it is repaired."""
    await env.pool(on_release=on_release)
    await env.provision()
    await env.begin(order="D-1", operation="deprovision")
    await env.run(env.addresses.revoke_ipv6_lifecycle, env.ref("S-1", "D-1"))
    env.server.stop()
    await refusal(env.run(env.addresses.release_ip_address, env.ref("S-1", "D-1")))
    env.server.start()
    assert await kinds(env) == [], "the order runs"
    await env.close(order="D-1", status="completed")
    if on_release is OnRelease.DELETE:
        assert await kinds(env) == []
    else:
        assert await kinds(env) == [(DifferenceKind.DRIFT, FIRST)]
        assert await repaired(env) == [""]
    await env.end_quarantines()
    assert await env.agree() == []
    assert await kinds(env, everything=True) == []


async def test_repair_of_a_difference_that_is_gone_changes_nothing(env: DirectEnv, other_user: NetBoxUser) -> None:
    """The subscriber is deprovisioned between the comparison and the repair."""
    await sets_a_status(env, other_user)
    [one] = await found(env)
    await env.deprovision("S-1", "D-1")
    assert await repair(env.database, env.netbox, one) == ""
    await env.agree()
