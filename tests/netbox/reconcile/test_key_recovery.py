"""Custom fields of Lastmile are deleted in NetBox and created again: the records recover their keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ipam.lifecycle import State
from ipam.modes import OnRelease, ReportingScope
from ipam.netbox import Stamp
from ipam.netbox.errors import NetBoxNotReadyError
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.records import KEY, LINK, SIZE, STATE, SUBSCRIBER, USED
from ipam.netbox.requirements import check, set_up
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import PREFIXES, DirectEnv, refusal
from tests.support.reconciliation import found, kinds, repaired

FIELDS = "/api/extras/custom-fields/"
FIRST, SECOND, THIRD = "2001:db8:4000::/56", "2001:db8:4000:100::/56", "2001:db8:4000:200::/56"
BLOCK = "2001:db8:4000::/52"
ALL = (KEY, SUBSCRIBER, STATE, LINK, USED, SIZE)


async def three_lines(env: DirectEnv, **pool: Any) -> None:
    """Provision three subscribers, release the second prefix, report everything, and compare once."""
    await env.pool(**pool)
    for n in (1, 2, 3):
        await env.provision(f"S-{n}", f"O-{n}")
    await env.deprovision("S-2", "D-2")
    await env.agree()
    assert await kinds(env) == []


async def without(env: DirectEnv, *names: str) -> None:
    """Delete these custom fields, with their values."""
    for name in names:
        [field] = env.peer.found(f"{FIELDS}?name={name}")
        reply = await asyncio.to_thread(env.peer.send, "DELETE", f"{FIELDS}{field['id']}/")
        assert reply.status_code == 204, reply.text


async def again(env: DirectEnv) -> None:
    """Run `lastmile netbox setup`; the check must succeed."""
    await set_up(env.netbox.wire, await check(env.netbox.wire))
    assert [one.requirement for one in await check(env.netbox.wire) if one.problem] == []


async def remade(env: DirectEnv, *names: str) -> None:
    await without(env, *names)
    await again(env)


async def changes(env: DirectEnv, id: int, **attributes: Any) -> None:
    reply = await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{id}/", attributes)
    assert reply.status_code == 200, reply.text


def at(env: DirectEnv, prefix: str) -> dict[str, Any]:
    with env.server.store.lock:
        [record] = [one for one in env.server.store.all("ipam.prefix") if one["prefix"] == prefix]
    return dict(record)


# Reconciliation


@pytest.mark.parametrize("fields", [(KEY,), ALL])
async def test_records_of_a_direct_pool_recover_their_keys(direct_env: DirectEnv, fields: tuple[str, ...]) -> None:
    await three_lines(direct_env)
    before = {one["id"]: one["description"] for one in direct_env.records()}
    await remade(direct_env, *fields)
    assert await kinds(direct_env) == sorted((DifferenceKind.DRIFT, one) for one in (FIRST, SECOND, THIRD))
    first = (await found(direct_env))[0]
    words = "S-1's, active: key none => its own"
    assert (first.words, first.repairable) == (
        words if fields == (KEY,) else f"{words}, subscriber none => S-1, state none => active",
        True,
    )
    assert await repaired(direct_env) == ["", "", ""]
    assert await direct_env.agree() == [FIRST, THIRD]
    assert {one["id"]: one["description"] for one in direct_env.records()} == before, "the same records"


@pytest.mark.parametrize("fields", [(KEY,), ALL])
@pytest.mark.parametrize("record", list(ReportingScope))
async def test_records_of_a_delegated_pool_recover_their_keys(
    delegated_env: DelegatedEnv, record: ReportingScope, fields: tuple[str, ...]
) -> None:
    await three_lines(delegated_env, record=record)
    before = {one["id"]: one["description"] for one in [*delegated_env.records(), at(delegated_env, BLOCK)]}
    await remade(delegated_env, *fields)
    wanted = [BLOCK, *([FIRST, SECOND, THIRD] if record is ReportingScope.PREFIX else [])]
    assert await kinds(delegated_env) == sorted((DifferenceKind.DRIFT, one) for one in wanted)
    assert await repaired(delegated_env) == [""] * len(wanted)
    assert await delegated_env.agree() == [FIRST, THIRD]
    assert {one["id"]: one["description"] for one in [*delegated_env.records(), at(delegated_env, BLOCK)]} == before


async def test_lost_field_is_found_without_a_change_of_the_record(direct_env: DirectEnv) -> None:
    """NetBox does not change the date of a record that loses a field. The date of the new field shows it."""
    await three_lines(direct_env)
    with direct_env.server.store.transaction():
        for one in direct_env.records():
            direct_env.server.store.replace("ipam.prefix", {**one, "last_updated": "2020-01-01T00:00:00Z"})
        for one in list(direct_env.server.store.all("extras.customfield")):
            direct_env.server.store.replace("extras.customfield", {**one, "created": "2020-01-01T00:00:00Z"})
    long_ago = "state_since = '2020-01-01', released_at = released_at - interval '1 year'"
    await direct_env.owner.execute(f"UPDATE delegations SET {long_ago}")
    assert await kinds(direct_env) == []
    await remade(direct_env, SUBSCRIBER)
    assert [kind for kind, _ in await kinds(direct_env)] == [DifferenceKind.DRIFT] * 3


# Records that belong to another user by now


async def repair_all(env: DirectEnv) -> None:
    """Repair what is repairable; an operator decides the rest."""
    for one in await found(env):
        await repair(env.database, env.netbox, one)


Breaking = Callable[[DirectEnv, int], Awaitable[None]]


async def moved(env: DirectEnv, id: int) -> None:
    await changes(env, id, prefix="2001:db8:4000:700::/56")


async def resized(env: DirectEnv, id: int) -> None:
    await changes(env, id, prefix="2001:db8:4000::/64")


async def in_another_vrf(env: DirectEnv, id: int) -> None:
    await changes(env, id, vrf=(await asyncio.to_thread(env.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"])


async def of_somebody_elses(env: DirectEnv, id: int) -> None:
    await changes(env, id, custom_fields={SUBSCRIBER: "S-9"})


async def without_our_tag(env: DirectEnv, id: int) -> None:
    await changes(env, id, tags=[], description="mine")


async def with_another_key(env: DirectEnv, id: int) -> None:
    await changes(env, id, custom_fields={KEY: "elsewhere/S-1/ipv6_pd/O-1"})


async def a_container(env: DirectEnv, id: int) -> None:
    await changes(env, id, status="container")


async def made_anew_by_a_person(env: DirectEnv, id: int) -> None:
    """The new record equals the expected one, except for its id."""
    assert (await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{id}/")).status_code == 204
    body = {"prefix": FIRST, "vrf": env.vrf, "custom_fields": {SUBSCRIBER: "S-1"}, "tags": [{"slug": "lastmile"}]}
    await asyncio.to_thread(env.peer.create, PREFIXES, **body)


MADE_OVER: list[Breaking] = [
    moved,
    resized,
    in_another_vrf,
    of_somebody_elses,
    without_our_tag,
    with_another_key,
    a_container,
    made_anew_by_a_person,
]


def foreign(env: DirectEnv) -> list[dict[str, Any]]:
    """Return the records of NetBox, without the two that recover their keys."""
    with env.server.store.lock:
        there = [one for one in env.server.store.all("ipam.prefix") if one["prefix"] not in (SECOND, THIRD, BLOCK)]
    return [one for one in there if one["custom_fields"].get(KEY) != "acme/S-1/ipv6_pd/O-1"]


@pytest.mark.parametrize("by", MADE_OVER)
async def test_record_of_a_direct_pool_changed_by_another_user_is_kept(direct_env: DirectEnv, by: Breaking) -> None:
    await three_lines(direct_env)
    id = int(at(direct_env, FIRST)["id"])
    await remade(direct_env, KEY)
    await by(direct_env, id)
    before = foreign(direct_env)
    assert len(before) == 2, "the pool's prefix and the foreign one"
    await repair_all(direct_env)
    await direct_env.deprovision("S-1", "D-1")
    await repair_all(direct_env)
    assert foreign(direct_env) == before


@pytest.mark.parametrize("by", MADE_OVER)
async def test_record_of_a_delegated_pool_changed_by_another_user_is_kept(
    delegated_env: DelegatedEnv, by: Breaking
) -> None:
    await three_lines(delegated_env, record=ReportingScope.PREFIX)
    id = int(at(delegated_env, FIRST)["id"])
    await remade(delegated_env, KEY)
    await by(delegated_env, id)
    before = foreign(delegated_env)
    assert len(before) == 2, "the pool's prefix and the foreign one"
    await repair_all(delegated_env)
    await delegated_env.deprovision("S-1", "D-1")
    await delegated_env.maintain()
    await delegated_env.expire_waits()
    await delegated_env.maintain()
    assert foreign(delegated_env) == before


@pytest.mark.parametrize("change", [{"tags": []}, {"status": "active"}, {"prefix": "2001:db8:4000::/51"}])
async def test_block_record_changed_by_another_user_is_kept(
    delegated_env: DelegatedEnv, change: dict[str, Any]
) -> None:
    await three_lines(delegated_env)
    id = int(at(delegated_env, BLOCK)["id"])
    await remade(delegated_env, KEY)
    await changes(delegated_env, id, description="mine", **change)

    def mine() -> dict[str, Any]:
        with delegated_env.server.store.lock:
            return next(dict(one) for one in delegated_env.server.store.all("ipam.prefix") if one["id"] == id)

    before = mine()
    await repair_all(delegated_env)
    await delegated_env.maintain()
    assert mine() == before


async def test_key_restored_on_another_record_is_not_recovered(direct_env: DirectEnv) -> None:
    """Another user restored a record with the key from a backup, beside the record that lost the key."""
    await three_lines(direct_env)
    await asyncio.to_thread(
        direct_env.peer.send, "PATCH", f"/api/ipam/vrfs/{direct_env.vrf}/", {"enforce_unique": False}
    )
    old = int(at(direct_env, FIRST)["id"])
    await remade(direct_env, KEY)
    assert len(await repaired(direct_env)) == 3
    await changes(direct_env, old, custom_fields={KEY: None})
    fields = {KEY: "acme/S-1/ipv6_pd/O-1", SUBSCRIBER: "S-1", STATE: "active"}
    body = {"prefix": FIRST, "vrf": direct_env.vrf, "custom_fields": fields, "tags": [{"slug": "lastmile"}]}
    new = (await asyncio.to_thread(direct_env.peer.create, PREFIXES, **body))["id"]
    assert f"S-1's, active: its record is #{new} ({FIRST}), not #{old}" in [
        one.words for one in await found(direct_env)
    ]
    await repair_all(direct_env)
    assert {one["id"] for one in direct_env.records() if one["prefix"] == FIRST} == {old, new}, "nothing is deleted"


# Orders and block maintenance before a repair


async def test_release_of_a_record_without_a_key_leaves_it_to_the_repair(direct_env: DirectEnv) -> None:
    await three_lines(direct_env)
    await remade(direct_env, KEY)
    await changes(direct_env, int(at(direct_env, FIRST)["id"]), description="noted by a person")
    report = await direct_env.deprovision("S-1", "D-1")
    assert "does not carry our key any more, and was left as it is" in report.reason
    assert await repaired(direct_env) == ["", "", ""]
    assert (at(direct_env, FIRST)["status"], at(direct_env, FIRST)["description"]) == (
        "deprecated",
        "noted by a person",
    )
    assert await direct_env.agree() == [THIRD]


async def test_release_deletes_no_record_without_a_key(direct_env: DirectEnv) -> None:
    await direct_env.pool(on_release=OnRelease.DELETE)
    await direct_env.provision()
    await remade(direct_env, KEY)
    report = await direct_env.deprovision()
    assert "was left as it is" in report.reason
    assert [(one.kind, one.subject, one.repairable) for one in await found(direct_env)] == [
        (DifferenceKind.ORPHAN, FIRST, False)
    ]


async def test_outbox_reports_a_release_without_a_key(delegated_env: DelegatedEnv) -> None:
    await three_lines(delegated_env, record=ReportingScope.PREFIX)
    await remade(delegated_env, KEY)
    await delegated_env.deprovision("S-1", "D-1")
    assert await delegated_env.maintain()
    assert (at(delegated_env, FIRST)["status"], at(delegated_env, FIRST)["custom_fields"][STATE]) == (
        "deprecated",
        "revoked",
    )
    assert await repaired(delegated_env) == ["", ""], "block maintenance has repaired the block"
    assert await delegated_env.agree() == [THIRD]


async def test_outbox_deletes_no_record_without_a_key(delegated_env: DelegatedEnv) -> None:
    await delegated_env.pool(record=ReportingScope.PREFIX, on_release=OnRelease.DELETE)
    await delegated_env.provision()
    await delegated_env.agree()
    await remade(delegated_env, KEY)
    id = at(delegated_env, FIRST)["id"]
    await delegated_env.deprovision()
    await delegated_env.maintain()
    problem = await delegated_env.owner.fetchval("SELECT problem FROM netbox_records")
    assert problem == f"{FIRST} (#{id}) has lost its key, so it is not deleted: delete it in NetBox"
    await delegated_env.delete_in_netbox(id)
    await delegated_env.expire_waits()
    await delegated_env.agree()


async def test_block_maintenance_recovers_the_key_of_a_block(delegated_env: DelegatedEnv) -> None:
    await three_lines(delegated_env)
    await remade(delegated_env, *ALL)
    assert await delegated_env.maintain()
    assert await delegated_env.agree() == [FIRST, THIRD]


async def test_record_without_a_key_is_no_foreign_prefix(delegated_env: DelegatedEnv) -> None:
    """This holds for a record that has changed since block maintenance last searched for foreign prefixes."""
    await three_lines(delegated_env, record=ReportingScope.PREFIX)
    await remade(delegated_env, KEY)
    await changes(delegated_env, int(at(delegated_env, SECOND)["id"]), description="noted by a person")
    await delegated_env.maintain()
    assert await delegated_env.owner.fetch("SELECT * FROM netbox_foreign_prefixes") == []
    assert await repaired(delegated_env) == ["", "", ""]
    assert at(delegated_env, FIRST)["description"] == "is S-1's (Lastmile)"
    await delegated_env.agree()


# While the custom field is missing


async def test_release_without_the_custom_field_waits(direct_env: DirectEnv) -> None:
    """The worker checked the requirements long ago, and notices in the reply that NetBox dropped the key."""
    await three_lines(direct_env)
    await without(direct_env, KEY)
    failure = await refusal(direct_env.deprovision("S-1", "D-1"))
    assert not failure.non_retryable
    assert "`lastmile netbox check`" in str(failure)
    with pytest.raises(
        NetBoxNotReadyError, match="NetBox has no custom field lastmile_key any more: run `lastmile netbox setup`"
    ):
        await found(direct_env)
    await again(direct_env)
    await direct_env.release("S-1", "D-1")
    await direct_env.close("S-1", "D-1")
    assert await repaired(direct_env) == ["", "", ""]
    assert await direct_env.agree() == [THIRD]


async def test_update_with_a_dropped_key_is_refused(direct_env: DirectEnv) -> None:
    await three_lines(direct_env)
    id = int(at(direct_env, FIRST)["id"])
    stamp = Stamp(key="acme/S-1/ipv6_pd/O-1", subscriber_ref="S-1", state=State.ACTIVE, tenant="acme")
    await without(direct_env, KEY)
    with pytest.raises(NetBoxNotReadyError, match="NetBox does not keep lastmile_key"):
        await direct_env.netbox.update(id, stamp)


async def test_outbox_without_the_custom_field_waits(delegated_env: DelegatedEnv) -> None:
    await three_lines(delegated_env, record=ReportingScope.PREFIX)
    await without(delegated_env, KEY)
    await delegated_env.deprovision("S-1", "D-1")
    assert not await delegated_env.maintain()
    assert await delegated_env.owner.fetchval("SELECT count(*) FROM netbox_records WHERE key IS NULL") == 0
    await again(delegated_env)
    await delegated_env.report_all()
    assert set(await repaired(delegated_env)) <= {""}
    assert await delegated_env.agree() == [THIRD]
