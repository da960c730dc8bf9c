"""`lastmile netbox import`: what fits becomes an ordinary delegation, what does not is said, and every run goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from pydantic import TypeAdapter

from ipam.netbox.binding import OnRelease, pool_named
from ipam.netbox.errors import NetBoxError
from ipam.netbox.importer.scan import Estate, UnknownFieldError
from ipam.netbox.records import KEY, STATE, SUBSCRIBER, TAG
from lastmile.audit.audit import check
from lastmile.contract.addressing import Purpose
from lastmile.contract.lines import Reference
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import CUT, DROPPED, LOST, Fault
from lastmile.services.netbox_import import ImportVerdict, InspectedPrefix, PrefixImporter
from tests.support.direct_env import PREFIXES, Kept
from tests.support.held_requests import Held

FIELD = "customer_ref"
FIRST = "2001:db8:4000::/56"


class Existing(Kept):
    """An ISP that has its subscribers in NetBox, by a custom field of its own, and in Lastmile, without prefixes."""

    runs = 0

    async def have_field(self) -> None:
        what = {"name": FIELD, "type": "text", "object_types": ["ipam.prefix"]}
        await asyncio.to_thread(self.peer.create, "/api/extras/custom-fields/", **what)

    async def subscriber(self, ref: str = "S-1", tenant: str = "acme") -> None:
        user = f"{ref}@{tenant}.lastmile"
        await self.owner.execute(
            """
            WITH customer AS (
                INSERT INTO customers (tenant_id, ref, name, created_by_order)
                VALUES ($1, 'C-' || $2, 'Ada', 'O-0') RETURNING id)
            INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
            SELECT $1, $2, id, 'O-0' FROM customer
            """,
            tenant,
            ref,
        )
        await self.owner.execute(
            "INSERT INTO radcheck (username, attribute, op, value) VALUES ($1, 'Cleartext-Password', ':=', 'x')", user
        )

    async def theirs(self, prefix: str = FIRST, ref: str = "S-1", **more: Any) -> int:
        """What the ISP has in NetBox; its id."""
        described = {"vrf": self.vrf, "custom_fields": {FIELD: ref}, "description": f"line of {ref}"} | more
        made = await asyncio.to_thread(self.peer.create, PREFIXES, prefix=prefix, **described)
        return int(made["id"])

    async def bring(
        self, *, apply: bool = True, field: str | None = FIELD, tenant: str | None = "acme"
    ) -> list[InspectedPrefix]:
        """One run; what became of each."""
        async with self.database.platform() as platform:
            pool = await pool_named(platform, "home", tenant)
        self.runs += 1
        run = f"import-{self.runs}"
        importer = PrefixImporter(self.database, self.netbox, pool, Purpose.IPV6_PD, run=run, actor="ada")
        judged: list[InspectedPrefix] = []
        with Estate(pool, tenant, field, TypeAdapter(Reference)) as estate:
            await estate.read(self.netbox.records(vrf_id=pool.netbox.vrf_id, within=pool.prefix))
            for batch in estate.carried():
                for one in await importer.inspect(batch):
                    fits = apply and one.verdict in (ImportVerdict.IMPORT, ImportVerdict.STAMP)
                    judged.append(await importer.import_prefix(one.carried) if fits else one)
        return judged

    async def rejected(self) -> str:
        """Why the one prefix is."""
        [one] = await self.bring()
        assert one.verdict is ImportVerdict.REJECT
        assert await self.states() == []
        assert [record["custom_fields"].get(KEY) for record in self.records()] == [None] * len(self.records())
        return one.reason


@pytest.fixture
async def kept(owner_url: str, owner: asyncpg.Connection, standin: NetBoxServer) -> AsyncIterator[Existing]:
    async with Existing.serving(owner_url, owner, standin) as kept:
        await kept.have_field()
        yield kept


@pytest.fixture
async def home(kept: Existing) -> int:
    return await kept.pool()


def fates(judged: list[InspectedPrefix]) -> list[str]:
    return [one.verdict.value for one in judged]


async def test_a_prefix_becomes_an_ordinary_delegation(kept: Existing, home: int) -> None:
    await kept.subscriber()
    tag = await asyncio.to_thread(kept.peer.create, "/api/extras/tags/", name="theirs", slug="theirs")
    id = await kept.theirs(tags=[{"slug": tag["slug"]}])
    assert fates(await kept.bring(apply=False)) == ["import"]
    assert (await kept.states(), kept.records()[0]["custom_fields"].get(KEY)) == ([], None)

    assert fates(await kept.bring()) == ["import"]
    [record] = kept.records()
    assert (record["id"], record["description"]) == (id, "line of S-1"), "the description stays"
    shown = (await asyncio.to_thread(kept.peer.send, "GET", f"{PREFIXES}{id}/")).json()
    assert {one["slug"] for one in shown["tags"]} == {"theirs", TAG}
    fields = record["custom_fields"]
    assert (fields[SUBSCRIBER], fields[STATE], fields[FIELD]) == ("S-1", "active", "S-1")
    reply = await kept.owner.fetchrow("SELECT username, attribute, value FROM radreply")
    assert tuple(reply) == ("S-1@acme.lastmile", "Delegated-IPv6-Prefix", FIRST)
    assert await kept.agree() == [FIRST]
    events = await kept.owner.fetch("SELECT from_state, to_state, order_id FROM delegation_events ORDER BY id")
    assert [tuple(row) for row in events] == [
        ("pending", "allocated", "import-2"),
        ("allocated", "active", "import-2"),
    ]

    assert fates(await kept.bring()) == ["managed"], "again"
    assert await kept.agree() == [FIRST]
    await kept.deprovision()
    # The steps on other records.
    await kept.owner.execute("DELETE FROM radcheck")
    await kept.owner.execute("UPDATE subscribers SET archived_at = now(), archived_by_order = 'D-1'")
    assert await kept.agree() == []
    assert kept.records()[0]["status"] == "deprecated"
    assert fates(await kept.bring()) == ["managed"], "it rests"
    await kept.everything_is_due()
    assert kept.records() == []


async def test_the_reference_in_the_description(kept: Existing, home: int) -> None:
    await kept.subscriber()
    await kept.theirs(description=" S-1 ", custom_fields={})
    await kept.theirs("2001:db8:4000:100::/56", description="", custom_fields={})
    assert fates(await kept.bring(field=None)) == ["import"]
    assert await kept.agree() == [FIRST]


async def test_a_field_that_netbox_does_not_have(kept: Existing, home: int) -> None:
    await kept.theirs()
    with pytest.raises(UnknownFieldError, match="'costumer_ref'"):
        await kept.bring(field="costumer_ref")


async def wrong_length(kept: Existing) -> None:
    await kept.theirs("2001:db8:4000::/48")


async def status(kept: Existing) -> None:
    await kept.theirs(status="reserved")


async def no_reference(kept: Existing) -> None:
    await kept.theirs(ref="Ada Byron, attic")


async def unknown(kept: Existing) -> None:
    await kept.theirs(ref="S-2")


async def of_another_tenant(kept: Existing) -> None:
    await kept.theirs(tenant={"slug": "other"})


async def archived(kept: Existing) -> None:
    await kept.owner.execute("UPDATE subscribers SET archived_at = now()")
    await kept.theirs()


async def busy(kept: Existing) -> None:
    await kept.begin()
    await kept.theirs()


async def without_account(kept: Existing) -> None:
    await kept.owner.execute("DELETE FROM radcheck")
    await kept.theirs()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (wrong_length, "is no /56, which pool home gives to subscribers"),
        (status, "is reserved in NetBox: what a subscriber uses is active"),
        (no_reference, "names no subscriber that can exist"),
        (unknown, "names subscriber S-2, whom tenant acme does not have: provision it first"),
        (of_another_tenant, "is tenant other's in NetBox, and the pool is acme's"),
        (archived, "names subscriber S-1, whom tenant acme does not have"),
        (busy, "names subscriber S-1, whose order is not finished"),
        (without_account, "who has no RADIUS account"),
    ],
)
async def test_what_does_not_fit(kept: Existing, home: int, make: Any, words: str) -> None:
    await kept.subscriber()
    await make(kept)
    assert words in await kept.rejected()


async def test_a_key_of_no_delegation(kept: Existing, home: int) -> None:
    await kept.subscriber()
    await kept.theirs(custom_fields={FIELD: "S-1", KEY: "acme/S-1/ipv6_pd/O-9", SUBSCRIBER: "S-1"})
    [one] = await kept.bring()
    assert (one.verdict, "which no delegation has" in one.reason) == (ImportVerdict.REJECT, True)


async def test_who_has_a_prefix_already(kept: Existing, home: int) -> None:
    await kept.subscriber()
    first = await kept.provision()
    await kept.theirs("2001:db8:4000:100::/56")
    assert [(one.verdict.value, one.reason) for one in await kept.bring()] == [
        ("managed", ""),
        ("reject", "is one of 2 prefixes of the same subscriber: a line has one"),
    ]
    assert await kept.agree() == [first]


async def test_who_comes_back_while_the_former_prefix_rests(kept: Existing, home: int) -> None:
    await kept.provision()
    await kept.deprovision()
    await kept.subscriber()
    await kept.theirs("2001:db8:4000:100::/56")
    assert fates(await kept.bring()) == ["managed", "import"]


async def test_two_prefixes_of_one_subscriber_and_two_records_of_one_prefix(kept: Existing, home: int) -> None:
    await asyncio.to_thread(kept.peer.send, "PATCH", f"/api/ipam/vrfs/{kept.vrf}/", {"enforce_unique": False})
    for n in (1, 2, 3, 4):
        await kept.subscriber(f"S-{n}")
    await kept.theirs("2001:db8:4000:100::/56", "S-1")
    await kept.theirs("2001:db8:4000:200::/56", "S-1")
    await kept.theirs("2001:db8:4000:300::/56", "S-2")
    await kept.theirs("2001:db8:4000:300::/56", "S-3")
    await kept.theirs("2001:db8:4000:400::/56", "S-4")
    judged = await kept.bring()
    assert [one.reason.partition(":")[0] for one in judged] == [
        "is one of 2 prefixes of the same subscriber",
        "is one of 2 prefixes of the same subscriber",
        "is in NetBox twice",
        "is in NetBox twice",
        "",
    ]
    assert await kept.owner.fetchval("SELECT string_agg(prefix::text, ' ') FROM delegations") == (
        "2001:db8:4000:400::/56"
    )


@pytest.mark.parametrize("other", ["2001:db8:4000:0:8000::/72", "2001:db8:4000::/44"])
async def test_what_overlaps(kept: Existing, home: int, other: str) -> None:
    await kept.subscriber()
    await kept.theirs()
    id = await kept.theirs(other, ref="")
    [one] = await kept.bring()
    assert one.reason.startswith(f"overlaps {other}: ")
    await asyncio.to_thread(kept.peer.send, "PATCH", f"{PREFIXES}{id}/", {"status": "container"})
    assert fates(await kept.bring()) == ["import"]


async def test_a_pool_of_every_tenant(kept: Existing) -> None:
    await kept.pool(tenant=None)
    for tenant in ("acme", "other"):
        await kept.subscriber(tenant=tenant)
    await kept.theirs("2001:db8:4000:100::/56", tenant={"slug": "other"})
    await kept.theirs("2001:db8:4000:200::/56", tenant={"slug": "acme"})
    await kept.theirs("2001:db8:4000:300::/56")
    judged = await kept.bring(tenant=None)
    assert fates(judged) == ["import", "import", "reject"]
    assert "give it one" in judged[2].reason
    assert await kept.owner.fetch("SELECT tenant_id FROM delegations ORDER BY prefix") == [("other",), ("acme",)]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED])
async def test_what_is_lost_on_the_way(kept: Existing, home: int, fault: Fault, method: str) -> None:
    for n in range(4):
        await kept.subscriber(f"S-{n}")
        await kept.theirs(f"2001:db8:4000:{n}00::/56", f"S-{n}")
    for after in range(6):
        kept.server.faults.next(Fault(), method=method, path=PREFIXES, times=after)
        kept.server.faults.next(fault, method=method, path=PREFIXES, times=3)  # the client tries that often
        with suppress(NetBoxError):
            await kept.bring()
        kept.server.faults.clear()
    await kept.bring()
    assert fates(await kept.bring()) == ["managed"] * 4
    assert len(await kept.agree()) == 4


async def test_killed_between_the_database_and_netbox(kept: Existing, home: int) -> None:
    await kept.subscriber()
    await kept.theirs()
    looking = Held(kept.server, "GET", f"{PREFIXES}{kept.records()[0]['id']}/", on_its_way=True)
    task = asyncio.create_task(kept.bring())
    await looking.reached()
    task.cancel()
    await asyncio.wait([task])
    looking.go_on()
    assert await kept.states() == ["active"]
    assert kept.records()[0]["custom_fields"].get(KEY) is None
    assert fates(await kept.bring(apply=False)) == ["stamp"]
    assert fates(await kept.bring()) == ["stamp"]
    assert await kept.agree() == [FIRST]


async def test_a_record_that_was_changed_meanwhile(kept: Existing, home: int) -> None:
    await kept.subscriber()
    id = await kept.theirs()
    async with kept.database.platform() as platform:
        pool = await pool_named(platform, "home", "acme")
    importer = PrefixImporter(kept.database, kept.netbox, pool, Purpose.IPV6_PD, run="import-1", actor="ada")
    with Estate(pool, "acme", FIELD, TypeAdapter(Reference)) as estate:
        await estate.read(kept.netbox.records(vrf_id=kept.vrf, within=pool.prefix))
        [[one]] = estate.carried()
    await asyncio.to_thread(kept.peer.send, "DELETE", f"{PREFIXES}{id}/")
    judged = await importer.import_prefix(one)
    assert "its record was changed meanwhile" in judged.reason


async def test_an_order_that_begins_meanwhile_waits(kept: Existing, home: int) -> None:
    """Else a deprovision could look for what the subscriber holds just before the import."""
    await kept.subscriber()
    await kept.theirs()
    blocker = await asyncpg.connect(kept.database.engine.url.set(drivername="postgresql").render_as_string(False))
    async with blocker.transaction():
        await blocker.execute(
            "INSERT INTO radreply (username, attribute, op, value) VALUES "
            f"('S-1@acme.lastmile', 'Delegated-IPv6-Prefix', ':=', '{FIRST}')"
        )
        importing = asyncio.create_task(kept.bring())
        await kept.waiting(1)
        leaving = asyncio.create_task(kept.begin("S-1", "D-1", "deprovision"))
        await kept.waiting(2)
        await blocker.execute("DELETE FROM radreply")
    await blocker.close()
    assert fates(await importing) == ["import"]
    await leaving
    assert [one async for one in check(kept.database) if one.invariant.number == 5] == []


async def test_many_are_read_by_pages(kept: Existing) -> None:
    await kept.pool(on_release=OnRelease.DELETE)
    await asyncio.gather(*(kept.theirs(f"2001:db8:4000:{n:x}00::/56", f"S-{n}") for n in range(1, 256)))
    await asyncio.gather(*(kept.theirs(f"2001:db8:4001:{n:x}00::/56", f"T-{n}") for n in range(1, 256)))
    assert len(await kept.bring(apply=False)) == 510
