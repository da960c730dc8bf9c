"""A pool that NetBox chooses from: whatever a person makes of it there, it is named, and what can be repaired is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from ipam.netbox.binding import OnRelease
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.records import KEY, STATE, SUBSCRIBER
from ipam.netbox.requirements import NOT_VISIBLE
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import LOST
from tests.support.direct_env import AVAILABLE, PREFIXES, SPACE, Kept, refusal
from tests.support.reconciliation import found, kinds, repaired

KEY_1 = "acme/S-1/ipv6_pd/O-1"
FIRST, SECOND, THIRD = (f"2001:db8:4000:{n}00::/56" if n else "2001:db8:4000::/56" for n in range(3))


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Kept]:
    async with Kept.serving(owner_url, owner, standin) as kept:
        yield kept


class Person:
    """What somebody does in NetBox, or a script of theirs."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

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
async def person(kept: Kept) -> Person:
    """In a pool with two lines, of which the second has been taken down and rests, and a third; all was looked at."""
    await kept.pool()
    for n in (1, 2, 3):
        await kept.provision(f"S-{n}", f"O-{n}")
    await kept.deprovision("S-2", "D-2")
    assert await kinds(kept) == []
    return Person(kept)


async def deletes(kept: Kept, person: Person) -> None:
    await person.deletes(person.record())


async def deletes_what_rests(kept: Kept, person: Person) -> None:
    await person.deletes(person.record(2))


async def deletes_and_makes_it_again(kept: Kept, person: Person) -> None:
    """As a script would that restores a backup: the same key, and another id."""
    await person.deletes(person.record())
    tags = [{"slug": "lastmile"}]
    await person.makes(FIRST, custom_fields={KEY: KEY_1, SUBSCRIBER: "S-1", STATE: "active"}, tags=tags)


async def sets_a_status(kept: Kept, person: Person) -> None:
    await person.changes(person.record(), status="deprecated")


async def sets_a_tenant(kept: Kept, person: Person) -> None:
    await person.changes(person.record(), tenant={"slug": "other"})


async def takes_the_tenant_away(kept: Kept, person: Person) -> None:
    await person.changes(person.record(2), tenant=None)


async def sets_a_state(kept: Kept, person: Person) -> None:
    await person.changes(person.record(), custom_fields={STATE: "suspended"})


async def sets_a_subscriber(kept: Kept, person: Person) -> None:
    await person.changes(person.record(), custom_fields={SUBSCRIBER: "S-9"})


async def takes_the_tag_away(kept: Kept, person: Person) -> None:
    await person.changes(person.record(), tags=[])


async def moves_it(kept: Kept, person: Person) -> None:
    await person.changes(person.record(), prefix="2001:db8:4000:7700::/56")


async def moves_it_out_of_the_pool(kept: Kept, person: Person) -> None:
    await person.changes(person.record(), prefix="2001:db8:9000::/56")


async def resizes_it(kept: Kept, person: Person) -> None:
    await person.changes(person.record(), prefix="2001:db8:4000::/60")


async def moves_it_to_another_vrf(kept: Kept, person: Person) -> None:
    await person.changes(person.record(), vrf=await person.vrf())


async def makes_a_second_one(kept: Kept, person: Person) -> None:
    """Two at once, of which NetBox checks neither against the other: here with a field that is not unique."""
    fields = kept.peer.found(f"/api/extras/custom-fields/?name={KEY}")
    for unique in (False, True):
        if not unique:
            await asyncio.to_thread(
                kept.peer.send, "PATCH", f"/api/extras/custom-fields/{fields[0]['id']}/", {"unique": False}
            )
            fields_1 = {KEY: KEY_1, SUBSCRIBER: "S-1", STATE: "active"}
            await person.makes("2001:db8:4000:8800::/56", custom_fields=fields_1, tags=[{"slug": "lastmile"}])
        else:
            await asyncio.to_thread(
                kept.peer.send, "PATCH", f"/api/extras/custom-fields/{fields[0]['id']}/", {"unique": True}
            )


async def lets_netbox_do_late_what_nobody_waits_for(kept: Kept, person: Person) -> None:
    """An order was rolled back, NetBox was looked at once more, and then makes the prefix after all."""
    await kept.begin("S-4", "O-4")
    kept.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(kept.allocate("S-4", "O-4"))
    late = kept.record("acme/S-4/ipv6_pd/O-4")
    assert late is not None
    await kept.undo("S-4", "O-4")
    await kept.close("S-4", "O-4", "rolled_back")
    await kept.owner.execute("DELETE FROM netbox_removals WHERE prefix IS NULL")
    fields = {KEY: "acme/S-4/ipv6_pd/O-4", SUBSCRIBER: "S-4", STATE: "allocated"}
    await person.makes("2001:db8:4000:300::/56", custom_fields=fields, tags=[{"slug": "lastmile"}])


By = Callable[[Kept, Person], Awaitable[None]]


@pytest.mark.parametrize(
    ("by", "kind", "subject", "words"),
    [
        (deletes, DifferenceKind.MISSING, FIRST, "S-1's, active: NetBox shows no record of it"),
        (deletes_what_rests, DifferenceKind.MISSING, SECOND, "S-2's, at rest: NetBox shows no record of it"),
        (deletes_and_makes_it_again, DifferenceKind.DRIFT, FIRST, f"S-1's, active: its record is #5 ({FIRST}), not #2"),
        (sets_a_status, DifferenceKind.DRIFT, FIRST, "S-1's, active: status deprecated => active"),
        (sets_a_tenant, DifferenceKind.DRIFT, FIRST, "S-1's, active: tenant other => acme"),
        (takes_the_tenant_away, DifferenceKind.DRIFT, SECOND, "S-2's, at rest: tenant none => acme"),
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
async def test_what_somebody_did_is_named_and_repaired(
    kept: Kept, person: Person, by: By, kind: DifferenceKind, subject: str, words: str
) -> None:
    await by(kept, person)
    [one] = await found(kept)
    assert (one.kind, one.subject, one.words, one.repairable) == (kind, subject, words, True)
    assert await kinds(kept) == [(kind, subject)], "it is remembered"
    assert await kinds(kept, everything=True) == [(kind, subject)]
    assert await repaired(kept) == [""]
    await kept.agree()


async def test_what_was_repaired_is_an_ordinary_prefix(kept: Kept, person: Person) -> None:
    for n in (1, 2):
        await person.deletes(person.record(n))
    assert await repaired(kept) == ["", ""]
    await kept.deprovision("S-1", "D-1")
    assert await kept.agree() == [THIRD]
    await kept.everything_is_due()
    assert await kept.agree() == [THIRD]
    assert len(kept.records()) == 1


async def test_what_lastmile_changed_without_telling_netbox(kept: Kept, person: Person) -> None:
    """As `lastmile audit --repair` does, which activates what a finished order has left."""
    await kept.begin("S-4", "O-4")
    prefix = await kept.allocate("S-4", "O-4")
    await kept.close("S-4", "O-4", "degraded")
    assert await kinds(kept) == []
    # Later than all that NetBox has seen.
    await kept.owner.execute("UPDATE netbox_comparisons SET since = now() + interval '1 hour'")
    change = "SET state = 'active', state_since = now() + interval '2 hours'"
    await kept.owner.execute(f"UPDATE delegations {change} WHERE subscriber_ref = 'S-4'")
    [one] = await found(kept)
    assert (one.kind, one.words) == (
        DifferenceKind.DRIFT,
        "S-4's, active: state allocated => active, status reserved => active",
    )
    assert await repaired(kept) == [""]
    record = kept.record("acme/S-4/ipv6_pd/O-4")
    assert record is not None
    assert (record["prefix"], record["status"]) == (prefix, "active")


# What only a person can repair


async def test_a_prefix_that_somebody_else_has_too(kept: Kept, person: Person) -> None:
    theirs = await person.makes("2001:db8:4000:0:100::/72", description="lab")
    [one] = await found(kept)
    assert (one.kind, one.subject, one.repairable) == (DifferenceKind.OCCUPIED, "2001:db8:4000:0:100::/72", False)
    assert one.words == f"lab (#{theirs}), made by somebody else, and S-1 holds {FIRST}"
    assert "deprovision the subscriber" in (await repaired(kept))[0]
    await person.deletes(theirs)
    assert await kinds(kept) == []


async def test_people_and_their_prefixes_are_no_difference(kept: Kept, person: Person) -> None:
    await person.makes("2001:db8:4000:f000::/52", description="lab")
    await person.makes("2001:db8:4000::/48", description="region north", status="container")
    assert await kinds(kept) == []
    assert await kinds(kept, everything=True) == []


async def test_a_record_that_somebody_made_over(kept: Kept, person: Person) -> None:
    """Its space is theirs now; once they have gone, ours is made again."""
    id = person.record()
    await person.changes(id, custom_fields={KEY: None, SUBSCRIBER: None, STATE: None}, description="mine", tags=[])
    [one] = await found(kept)
    assert (one.kind, one.words) == (
        DifferenceKind.MISSING,
        f"S-1's, active: somebody has made record #{id}, which was its, over",
    )
    assert await repaired(kept) == [f"NetBox has {FIRST} already, and not as ours: mine (#{id})"]
    assert len([one for one in kept.records() if one["prefix"] == FIRST]) == 1
    await person.deletes(id)
    assert await repaired(kept) == [""]
    await kept.agree()


async def test_the_place_of_a_moved_record_is_taken(kept: Kept, person: Person) -> None:
    await moves_it(kept, person)
    theirs = await person.makes(FIRST, description="lab")
    assert (DifferenceKind.MOVED, FIRST) in await kinds(kept)
    problems = await repaired(kept)
    assert f"NetBox has {FIRST} already, and not as ours: lab (#{theirs})" in problems


async def test_a_resting_prefix_that_netbox_has_given_out_again(kept: Kept, person: Person) -> None:
    await person.deletes(person.record(2))
    assert await kept.provision("S-4", "O-4") == SECOND
    [problem] = await repaired(kept)
    assert problem.startswith(f"NetBox has {SECOND} already, and not as ours: is S-4's (Lastmile)")


async def test_a_key_that_we_have_never_heard_of(kept: Kept, person: Person) -> None:
    """Our database may have been restored from last week's backup: nothing of it is deleted."""
    fields = {KEY: "acme/S-7/ipv6_pd/O-7", SUBSCRIBER: "S-7", STATE: "active"}
    theirs = await person.makes("2001:db8:4000:700::/56", custom_fields=fields, tags=[{"slug": "lastmile"}])
    [one] = await found(kept)
    assert (one.kind, one.repairable) == (DifferenceKind.ORPHAN, False)
    assert "which this database has never heard of" in one.words
    assert (await repaired(kept))[0].startswith("find out who made it")
    assert kept.record("acme/S-7/ipv6_pd/O-7") is not None
    await person.deletes(theirs)


async def test_another_lastmile_is_left_alone(kept: Kept, person: Person) -> None:
    fields = {KEY: "elsewhere/S-1/ipv6_pd/O-1", SUBSCRIBER: "S-1", STATE: "active"}
    await person.makes("2001:db8:4000:700::/56", custom_fields=fields, tags=[{"slug": "lastmile"}])
    assert await kinds(kept) == []
    assert await kinds(kept, everything=True) == []


async def test_our_tag_on_somebody_elses(kept: Kept, person: Person) -> None:
    await person.makes("2001:db8:4000:700::/56", tags=[{"slug": "lastmile"}])
    [one] = await found(kept)
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
async def test_a_pool_that_was_moved_resized_or_deleted(
    kept: Kept, person: Person, change: dict[str, Any] | None, words: str
) -> None:
    pool = await kept.owner.fetchval("SELECT netbox_prefix_id FROM pools")
    if change is None:
        await person.deletes(pool)
    else:
        await person.changes(pool, **change)
    [one] = await found(kept)
    assert (one.kind, one.subject, one.repairable) == (DifferenceKind.POOL_MOVED, SPACE, False)
    assert one.words == f"pool home is prefix #{pool} of NetBox, {words}"
    [problem] = await repaired(kept)
    assert "`lastmile pool add` again" in problem


async def test_a_pool_that_was_put_into_another_vrf_is_moved_back(kept: Kept, person: Person) -> None:
    pool = await kept.owner.fetchval("SELECT netbox_prefix_id FROM pools")
    await person.changes(pool, vrf=await person.vrf())
    [one] = await found(kept)
    assert (one.kind, one.subject, one.repairable) == (DifferenceKind.POOL_MOVED, SPACE, True)
    assert one.words == f"pool home is prefix #{pool} of NetBox, which has {SPACE} there, in another VRF"
    assert await repaired(kept) == [""]
    assert await kept.provision("S-5", "O-5") in await kept.agree()


async def test_a_pool_whose_place_is_taken_is_not_moved_back(kept: Kept, person: Person) -> None:
    pool = await kept.owner.fetchval("SELECT netbox_prefix_id FROM pools")
    await person.changes(pool, vrf=await person.vrf())
    other = await person.makes(SPACE, status="container")
    [problem] = await repaired(kept)
    assert problem.startswith(f"the VRF of pool home has {SPACE} already (#{other}): delete one of the two in NetBox.")
    await person.deletes(other)
    assert await repaired(kept) == [""]


async def test_a_persons_prefix_in_another_vrf_takes_nothing(kept: Kept, person: Person) -> None:
    await kinds(kept)
    theirs = await person.makes(FIRST, vrf=await person.vrf())
    await kept.owner.execute("INSERT INTO netbox_pending_inspections SELECT id, $1, '2020-01-01' FROM pools", theirs)
    assert await kinds(kept) == []
    assert await kinds(kept, everything=True) == []


async def test_undo_removes_the_record_that_a_person_moved_to_another_vrf(kept: Kept, person: Person) -> None:
    """NetBox made it for an order whose reply was lost. The undo finds it by its key, in whichever VRF."""
    await kept.begin("S-4", "O-4")
    kept.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(kept.allocate("S-4", "O-4"))
    await person.changes(person.record(4), vrf=await person.vrf())
    assert await kinds(kept, everything=True) == [], "the order runs"
    assert kept.record("acme/S-4/ipv6_pd/O-4") is not None

    await kept.undo("S-4", "O-4")
    await kept.close("S-4", "O-4", "rolled_back")

    assert kept.record("acme/S-4/ipv6_pd/O-4") is None
    assert await kinds(kept, everything=True) == []


# What is in flight


async def test_what_an_order_has_in_hand_is_no_difference(kept: Kept, person: Person) -> None:
    await kept.begin("S-4", "O-4")
    kept.server.faults.next(LOST, method="POST", path=AVAILABLE)
    await refusal(kept.allocate("S-4", "O-4"))
    assert await kinds(kept) == [], "made, and not known here yet"
    await kept.allocate("S-4", "O-4")
    await person.changes(person.record(4), status="active")
    assert await kinds(kept) == [], "it will be told"
    assert await kinds(kept, everything=True) == []
    await kept.close("S-4", "O-4", "abandoned")
    assert await kinds(kept) == [(DifferenceKind.DRIFT, "2001:db8:4000:300::/56")], "nobody tells it any more"


@pytest.mark.parametrize("on_release", list(OnRelease))
async def test_a_release_that_was_given_up_half_way(kept: Kept, on_release: OnRelease) -> None:
    """What is deleted goes within the hour, with all that is due; what should rest rests once it is repaired."""
    await kept.pool(on_release=on_release)
    await kept.provision()
    await kept.begin(order="D-1", operation="deprovision")
    await kept.run(kept.addresses.revoke_ipv6_lifecycle, kept.ref("S-1", "D-1"))
    kept.server.stop()
    await refusal(kept.run(kept.addresses.release_ip_address, kept.ref("S-1", "D-1")))
    kept.server.start()
    assert await kinds(kept) == [], "the order runs"
    await kept.close(order="D-1", status="completed")
    if on_release is OnRelease.DELETE:
        assert await kinds(kept) == []
    else:
        assert await kinds(kept) == [(DifferenceKind.DRIFT, FIRST)]
        assert await repaired(kept) == [""]
    await kept.everything_is_due()
    assert await kept.agree() == []
    assert await kinds(kept, everything=True) == []


async def test_what_has_been_settled_meanwhile_is_left_alone(kept: Kept, person: Person) -> None:
    """Between the look and the repair the subscriber has gone."""
    await sets_a_status(kept, person)
    [one] = await found(kept)
    await kept.deprovision("S-1", "D-1")
    assert await repair(kept.database, kept.netbox, one) == ""
    await kept.agree()
