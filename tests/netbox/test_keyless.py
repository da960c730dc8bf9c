"""Somebody deletes custom fields of ours in NetBox, and they are made again: what is ours gets its key back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ipam.lifecycle import State
from ipam.netbox import Stamp
from ipam.netbox.binding import OnRelease, ReportingScope
from ipam.netbox.errors import NetBoxNotReadyError
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.records import KEY, LINK, SIZE, STATE, SUBSCRIBER, USED
from ipam.netbox.requirements import check, set_up
from tests.support.delegated_env import Delegated
from tests.support.direct_env import PREFIXES, Kept, refusal
from tests.support.reconciliation import found, kinds, repaired

FIELDS = "/api/extras/custom-fields/"
FIRST, SECOND, THIRD = "2001:db8:4000::/56", "2001:db8:4000:100::/56", "2001:db8:4000:200::/56"
BLOCK = "2001:db8:4000::/52"
ALL = (KEY, SUBSCRIBER, STATE, LINK, USED, SIZE)


async def three_lines(kept: Kept, **pool: Any) -> None:
    """Of which the second rests; NetBox has been told, and was looked at."""
    await kept.pool(**pool)
    for n in (1, 2, 3):
        await kept.provision(f"S-{n}", f"O-{n}")
    await kept.deprovision("S-2", "D-2")
    await kept.agree()
    assert await kinds(kept) == []


async def without(kept: Kept, *names: str) -> None:
    """Somebody deletes these fields, with all that they held."""
    for name in names:
        [field] = kept.peer.found(f"{FIELDS}?name={name}")
        reply = await asyncio.to_thread(kept.peer.send, "DELETE", f"{FIELDS}{field['id']}/")
        assert reply.status_code == 204, reply.text


async def again(kept: Kept) -> None:
    """`lastmile netbox setup`, and the check is green."""
    await set_up(kept.netbox.wire, await check(kept.netbox.wire))
    assert [one.requirement for one in await check(kept.netbox.wire) if one.problem] == []


async def remade(kept: Kept, *names: str) -> None:
    await without(kept, *names)
    await again(kept)


async def changes(kept: Kept, id: int, **attributes: Any) -> None:
    reply = await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{id}/", attributes)
    assert reply.status_code == 200, reply.text


def at(kept: Kept, prefix: str) -> dict[str, Any]:
    with kept.server.store.lock:
        [record] = [one for one in kept.server.store.all("ipam.prefix") if one["prefix"] == prefix]
    return dict(record)


# Reconciliation


@pytest.mark.parametrize("fields", [(KEY,), ALL])
async def test_of_a_direct_pool_each_gets_its_key_back(direct: Kept, fields: tuple[str, ...]) -> None:
    await three_lines(direct)
    before = {one["id"]: one["description"] for one in direct.records()}
    await remade(direct, *fields)
    assert await kinds(direct) == sorted((DifferenceKind.DRIFT, one) for one in (FIRST, SECOND, THIRD))
    first = (await found(direct))[0]
    words = "S-1's, active: key none => its own"
    assert (first.words, first.repairable) == (
        words if fields == (KEY,) else f"{words}, subscriber none => S-1, state none => active",
        True,
    )
    assert await repaired(direct) == ["", "", ""]
    assert await direct.agree() == [FIRST, THIRD]
    assert {one["id"]: one["description"] for one in direct.records()} == before, "the same records"


@pytest.mark.parametrize("fields", [(KEY,), ALL])
@pytest.mark.parametrize("record", list(ReportingScope))
async def test_of_a_delegated_pool_each_gets_its_key_back(
    delegated: Delegated, record: ReportingScope, fields: tuple[str, ...]
) -> None:
    await three_lines(delegated, record=record)
    before = {one["id"]: one["description"] for one in [*delegated.records(), at(delegated, BLOCK)]}
    await remade(delegated, *fields)
    wanted = [BLOCK, *([FIRST, SECOND, THIRD] if record is ReportingScope.PREFIX else [])]
    assert await kinds(delegated) == sorted((DifferenceKind.DRIFT, one) for one in wanted)
    assert await repaired(delegated) == [""] * len(wanted)
    assert await delegated.agree() == [FIRST, THIRD]
    assert {one["id"]: one["description"] for one in [*delegated.records(), at(delegated, BLOCK)]} == before


async def test_no_pass_before_sees_it_by_its_last_change(direct: Kept) -> None:
    """NetBox does not date a record anew that loses a field: the field's own age tells."""
    await three_lines(direct)
    with direct.server.store.transaction():
        for one in direct.records():
            direct.server.store.replace("ipam.prefix", {**one, "last_updated": "2020-01-01T00:00:00Z"})
        for one in list(direct.server.store.all("extras.customfield")):
            direct.server.store.replace("extras.customfield", {**one, "created": "2020-01-01T00:00:00Z"})
    long_ago = "state_since = '2020-01-01', released_at = released_at - interval '1 year'"
    await direct.owner.execute(f"UPDATE delegations SET {long_ago}")
    assert await kinds(direct) == []
    await remade(direct, SUBSCRIBER)
    assert [kind for kind, _ in await kinds(direct)] == [DifferenceKind.DRIFT] * 3


# What is not ours any more


async def repair_all(kept: Kept) -> None:
    """What can be; what is left is a person's to decide."""
    for one in await found(kept):
        await repair(kept.database, kept.netbox, one)


Breaking = Callable[[Kept, int], Awaitable[None]]


async def moved(kept: Kept, id: int) -> None:
    await changes(kept, id, prefix="2001:db8:4000:700::/56")


async def resized(kept: Kept, id: int) -> None:
    await changes(kept, id, prefix="2001:db8:4000::/64")


async def in_another_vrf(kept: Kept, id: int) -> None:
    await changes(kept, id, vrf=(await asyncio.to_thread(kept.peer.create, "/api/ipam/vrfs/", name="elsewhere"))["id"])


async def of_somebody_elses(kept: Kept, id: int) -> None:
    await changes(kept, id, custom_fields={SUBSCRIBER: "S-9"})


async def without_our_tag(kept: Kept, id: int) -> None:
    await changes(kept, id, tags=[], description="mine")


async def with_another_key(kept: Kept, id: int) -> None:
    await changes(kept, id, custom_fields={KEY: "elsewhere/S-1/ipv6_pd/O-1"})


async def a_container(kept: Kept, id: int) -> None:
    await changes(kept, id, status="container")


async def made_anew_by_a_person(kept: Kept, id: int) -> None:
    """Just as ours, but for the id."""
    assert (await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{id}/")).status_code == 204
    body = {"prefix": FIRST, "vrf": kept.vrf, "custom_fields": {SUBSCRIBER: "S-1"}, "tags": [{"slug": "lastmile"}]}
    await asyncio.to_thread(kept.peer.create, PREFIXES, **body)


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


def theirs(kept: Kept) -> list[dict[str, Any]]:
    """What NetBox has, but for the two that are ours again."""
    with kept.server.store.lock:
        there = [one for one in kept.server.store.all("ipam.prefix") if one["prefix"] not in (SECOND, THIRD, BLOCK)]
    return [one for one in there if one["custom_fields"].get(KEY) != "acme/S-1/ipv6_pd/O-1"]


@pytest.mark.parametrize("by", MADE_OVER)
async def test_of_a_direct_pool_what_a_person_made_of_it_stays(direct: Kept, by: Breaking) -> None:
    await three_lines(direct)
    id = int(at(direct, FIRST)["id"])
    await remade(direct, KEY)
    await by(direct, id)
    before = theirs(direct)
    assert len(before) == 2, "the pool's own, and theirs"
    await repair_all(direct)
    await direct.deprovision("S-1", "D-1")
    await repair_all(direct)
    assert theirs(direct) == before


@pytest.mark.parametrize("by", MADE_OVER)
async def test_of_a_delegated_pool_what_a_person_made_of_it_stays(delegated: Delegated, by: Breaking) -> None:
    await three_lines(delegated, record=ReportingScope.PREFIX)
    id = int(at(delegated, FIRST)["id"])
    await remade(delegated, KEY)
    await by(delegated, id)
    before = theirs(delegated)
    assert len(before) == 2, "the pool's own, and theirs"
    await repair_all(delegated)
    await delegated.deprovision("S-1", "D-1")
    await delegated.beat()
    await delegated.hours_later()
    await delegated.beat()
    assert theirs(delegated) == before


@pytest.mark.parametrize("change", [{"tags": []}, {"status": "active"}, {"prefix": "2001:db8:4000::/51"}])
async def test_a_block_that_a_person_made_over_stays(delegated: Delegated, change: dict[str, Any]) -> None:
    await three_lines(delegated)
    id = int(at(delegated, BLOCK)["id"])
    await remade(delegated, KEY)
    await changes(delegated, id, description="mine", **change)

    def mine() -> dict[str, Any]:
        with delegated.server.store.lock:
            return next(dict(one) for one in delegated.server.store.all("ipam.prefix") if one["id"] == id)

    before = mine()
    await repair_all(delegated)
    await delegated.beat()
    assert mine() == before


async def test_the_key_is_at_another_record_by_now(direct: Kept) -> None:
    """Somebody has restored it from a backup, beside the one that lost it."""
    await three_lines(direct)
    await asyncio.to_thread(direct.peer.send, "PATCH", f"/api/ipam/vrfs/{direct.vrf}/", {"enforce_unique": False})
    old = int(at(direct, FIRST)["id"])
    await remade(direct, KEY)
    assert len(await repaired(direct)) == 3
    await changes(direct, old, custom_fields={KEY: None})
    fields = {KEY: "acme/S-1/ipv6_pd/O-1", SUBSCRIBER: "S-1", STATE: "active"}
    body = {"prefix": FIRST, "vrf": direct.vrf, "custom_fields": fields, "tags": [{"slug": "lastmile"}]}
    new = (await asyncio.to_thread(direct.peer.create, PREFIXES, **body))["id"]
    assert f"S-1's, active: its record is #{new} ({FIRST}), not #{old}" in [one.words for one in await found(direct)]
    await repair_all(direct)
    assert {one["id"] for one in direct.records() if one["prefix"] == FIRST} == {old, new}, "nothing is deleted"


# Orders, and the keeper, before anybody repairs


async def test_an_order_leaves_it_to_the_repair(direct: Kept) -> None:
    await three_lines(direct)
    await remade(direct, KEY)
    await changes(direct, int(at(direct, FIRST)["id"]), description="noted by a person")
    report = await direct.deprovision("S-1", "D-1")
    assert "does not carry our key any more, and was left as it is" in report.reason
    assert await repaired(direct) == ["", "", ""]
    assert (at(direct, FIRST)["status"], at(direct, FIRST)["description"]) == ("deprecated", "noted by a person")
    assert await direct.agree() == [THIRD]


async def test_an_order_deletes_nothing_without_a_key(direct: Kept) -> None:
    await direct.pool(on_release=OnRelease.DELETE)
    await direct.provision()
    await remade(direct, KEY)
    report = await direct.deprovision()
    assert "was left as it is" in report.reason
    assert [(one.kind, one.subject, one.repairable) for one in await found(direct)] == [
        (DifferenceKind.ORPHAN, FIRST, False)
    ]


async def test_the_outbox_tells_of_a_release(delegated: Delegated) -> None:
    await three_lines(delegated, record=ReportingScope.PREFIX)
    await remade(delegated, KEY)
    await delegated.deprovision("S-1", "D-1")
    assert await delegated.beat()
    assert (at(delegated, FIRST)["status"], at(delegated, FIRST)["custom_fields"][STATE]) == ("deprecated", "revoked")
    assert await repaired(delegated) == ["", ""], "the keeper has repaired the block"
    assert await delegated.agree() == [THIRD]


async def test_the_outbox_deletes_nothing_without_a_key(delegated: Delegated) -> None:
    await delegated.pool(record=ReportingScope.PREFIX, on_release=OnRelease.DELETE)
    await delegated.provision()
    await delegated.agree()
    await remade(delegated, KEY)
    id = at(delegated, FIRST)["id"]
    await delegated.deprovision()
    await delegated.beat()
    problem = await delegated.owner.fetchval("SELECT problem FROM netbox_records")
    assert problem == f"{FIRST} (#{id}) has lost its key, so it is not deleted: delete it in NetBox"
    await delegated.deleted_by_hand(id)
    await delegated.hours_later()
    await delegated.agree()


async def test_the_keeper_gives_a_block_its_key_back(delegated: Delegated) -> None:
    await three_lines(delegated)
    await remade(delegated, *ALL)
    assert await delegated.beat()
    assert await delegated.agree() == [FIRST, THIRD]


async def test_what_lost_its_key_is_no_strangers(delegated: Delegated) -> None:
    """Also where it has been changed since the keeper's last look."""
    await three_lines(delegated, record=ReportingScope.PREFIX)
    await remade(delegated, KEY)
    await changes(delegated, int(at(delegated, SECOND)["id"]), description="noted by a person")
    await delegated.beat()
    assert await delegated.owner.fetch("SELECT * FROM netbox_foreign_prefixes") == []
    assert await repaired(delegated) == ["", "", ""]
    assert at(delegated, FIRST)["description"] == "is S-1's (Lastmile)"
    await delegated.agree()


# While the field is not there


async def test_a_release_without_the_field_waits(direct: Kept) -> None:
    """Of a worker that has looked long ago; what NetBox drops is noticed in its reply."""
    await three_lines(direct)
    await without(direct, KEY)
    failure = await refusal(direct.deprovision("S-1", "D-1"))
    assert not failure.non_retryable
    assert "`lastmile netbox check`" in str(failure)
    with pytest.raises(
        NetBoxNotReadyError, match="NetBox has no custom field lastmile_key any more: run `lastmile netbox setup`"
    ):
        await found(direct)
    await again(direct)
    await direct.release("S-1", "D-1")
    await direct.close("S-1", "D-1")
    assert await repaired(direct) == ["", "", ""]
    assert await direct.agree() == [THIRD]


async def test_a_change_whose_key_netbox_drops_is_no_success(direct: Kept) -> None:
    await three_lines(direct)
    id = int(at(direct, FIRST)["id"])
    stamp = Stamp(key="acme/S-1/ipv6_pd/O-1", subscriber_ref="S-1", state=State.ACTIVE, tenant="acme")
    await without(direct, KEY)
    with pytest.raises(NetBoxNotReadyError, match="NetBox does not keep lastmile_key"):
        await direct.netbox.update(id, stamp)


async def test_the_outbox_waits_for_the_field(delegated: Delegated) -> None:
    await three_lines(delegated, record=ReportingScope.PREFIX)
    await without(delegated, KEY)
    await delegated.deprovision("S-1", "D-1")
    assert not await delegated.beat()
    assert await delegated.owner.fetchval("SELECT count(*) FROM netbox_records WHERE key IS NULL") == 0
    await again(delegated)
    await delegated.in_the_end()
    assert set(await repaired(delegated)) <= {""}
    assert await delegated.agree() == [THIRD]
