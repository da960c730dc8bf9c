"""`lastmile netbox import`: valid prefixes become ordinary delegations, others are rejected with the reason."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from pydantic import TypeAdapter

from ipam.modes import OnRelease
from ipam.netbox.binding import pool_named
from ipam.netbox.errors import NetBoxError
from ipam.netbox.importer.scan import ImportScan, UnknownFieldError
from ipam.netbox.records import KEY, STATE, SUBSCRIBER, TAG
from lastmile.audit.audit import check
from lastmile.contract.addressing import Purpose
from lastmile.contract.lines import Reference
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import CUT, DROPPED, LOST, Fault
from lastmile.services.netbox_import import ImportVerdict, InspectedPrefix, PrefixImporter
from tests.support.direct_env import PREFIXES, DirectEnv
from tests.support.held_requests import HeldRequest

FIELD = "customer_ref"
FIRST = "2001:db8:4000::/56"


class ImportEnv(DirectEnv):
    """An ISP with subscribers in Lastmile, and their prefixes only in NetBox, named by a custom field."""

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

    async def foreign(self, prefix: str = FIRST, ref: str = "S-1", **more: Any) -> int:
        """Add a prefix of the ISP in NetBox; return its id."""
        described = {"vrf": self.vrf, "custom_fields": {FIELD: ref}, "description": f"line of {ref}"} | more
        made = await asyncio.to_thread(self.peer.create, PREFIXES, prefix=prefix, **described)
        return int(made["id"])

    async def run_import(
        self, *, apply: bool = True, field: str | None = FIELD, tenant: str | None = "acme"
    ) -> list[InspectedPrefix]:
        """Run the import once; return the verdict on each prefix."""
        async with self.database.platform() as platform:
            pool = await pool_named(platform, "home", tenant)
        self.runs += 1
        run = f"import-{self.runs}"
        importer = PrefixImporter(self.database, self.netbox, pool, Purpose.IPV6_PD, run=run, actor="ada")
        judged: list[InspectedPrefix] = []
        with ImportScan(pool, tenant, field, TypeAdapter(Reference)) as scan:
            await scan.read(self.netbox.records(vrf_id=pool.netbox.vrf_id, within=pool.prefix))
            for batch in scan.carried():
                for one in await importer.inspect(batch):
                    fits = apply and one.verdict in (ImportVerdict.IMPORT, ImportVerdict.STAMP)
                    judged.append(await importer.import_prefix(one.carried) if fits else one)
        return judged

    async def rejection(self) -> str:
        """Return why the only prefix is rejected."""
        [one] = await self.run_import()
        assert one.verdict is ImportVerdict.REJECT
        assert await self.states() == []
        assert [record["custom_fields"].get(KEY) for record in self.records()] == [None] * len(self.records())
        return one.reason


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[ImportEnv]:
    async with ImportEnv.serving(owner_url, owner, netbox_server) as env:
        await env.have_field()
        yield env


@pytest.fixture
async def home(env: ImportEnv) -> int:
    return await env.pool()


def verdicts(judged: list[InspectedPrefix]) -> list[str]:
    return [one.verdict.value for one in judged]


async def test_imported_prefix_is_an_ordinary_delegation(env: ImportEnv, home: int) -> None:
    await env.subscriber()
    tag = await asyncio.to_thread(env.peer.create, "/api/extras/tags/", name="theirs", slug="theirs")
    id = await env.foreign(tags=[{"slug": tag["slug"]}])
    assert verdicts(await env.run_import(apply=False)) == ["import"]
    assert (await env.states(), env.records()[0]["custom_fields"].get(KEY)) == ([], None)

    assert verdicts(await env.run_import()) == ["import"]
    [record] = env.records()
    assert (record["id"], record["description"]) == (id, "line of S-1"), "the description stays"
    shown = (await asyncio.to_thread(env.peer.send, "GET", f"{PREFIXES}{id}/")).json()
    assert {one["slug"] for one in shown["tags"]} == {"theirs", TAG}
    fields = record["custom_fields"]
    assert (fields[SUBSCRIBER], fields[STATE], fields[FIELD]) == ("S-1", "active", "S-1")
    reply = await env.owner.fetchrow("SELECT username, attribute, value FROM radreply")
    assert tuple(reply) == ("S-1@acme.lastmile", "Delegated-IPv6-Prefix", FIRST)
    assert await env.agree() == [FIRST]
    events = await env.owner.fetch("SELECT from_state, to_state, order_id FROM delegation_events ORDER BY id")
    assert [tuple(row) for row in events] == [
        ("pending", "allocated", "import-2"),
        ("allocated", "active", "import-2"),
    ]

    assert verdicts(await env.run_import()) == ["managed"], "again"
    assert await env.agree() == [FIRST]
    await env.deprovision()
    # The steps that the environment does not run.
    await env.owner.execute("DELETE FROM radcheck")
    await env.owner.execute("UPDATE subscribers SET archived_at = now(), archived_by_order = 'D-1'")
    assert await env.agree() == []
    assert env.records()[0]["status"] == "deprecated"
    assert verdicts(await env.run_import()) == ["managed"], "in quarantine"
    await env.end_quarantines()
    assert env.records() == []


async def test_import_without_a_field_reads_the_description(env: ImportEnv, home: int) -> None:
    await env.subscriber()
    await env.foreign(description=" S-1 ", custom_fields={})
    await env.foreign("2001:db8:4000:100::/56", description="", custom_fields={})
    assert verdicts(await env.run_import(field=None)) == ["import"]
    assert await env.agree() == [FIRST]


async def test_import_with_an_unknown_field_is_refused(env: ImportEnv, home: int) -> None:
    await env.foreign()
    with pytest.raises(UnknownFieldError, match="'costumer_ref'"):
        await env.run_import(field="costumer_ref")


async def wrong_length(env: ImportEnv) -> None:
    await env.foreign("2001:db8:4000::/48")


async def status(env: ImportEnv) -> None:
    await env.foreign(status="reserved")


async def no_reference(env: ImportEnv) -> None:
    await env.foreign(ref="Ada Byron, attic")


async def unknown(env: ImportEnv) -> None:
    await env.foreign(ref="S-2")


async def of_another_tenant(env: ImportEnv) -> None:
    await env.foreign(tenant={"slug": "other"})


async def archived(env: ImportEnv) -> None:
    await env.owner.execute("UPDATE subscribers SET archived_at = now()")
    await env.foreign()


async def busy(env: ImportEnv) -> None:
    await env.begin()
    await env.foreign()


async def without_account(env: ImportEnv) -> None:
    await env.owner.execute("DELETE FROM radcheck")
    await env.foreign()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (wrong_length, "is not a /56, the length of the prefixes of pool home"),
        (status, "has the status reserved in NetBox: only an active prefix can be imported"),
        (no_reference, "has an invalid subscriber reference"),
        (unknown, "names subscriber S-2, whom tenant acme does not have: provision it first"),
        (of_another_tenant, "is tenant other's in NetBox, and the pool is acme's"),
        (archived, "names subscriber S-1, whom tenant acme does not have"),
        (busy, "names subscriber S-1, whose order is not finished"),
        (without_account, "who has no RADIUS account"),
    ],
)
async def test_prefix_that_cannot_be_a_delegation_is_rejected(env: ImportEnv, home: int, make: Any, words: str) -> None:
    await env.subscriber()
    await make(env)
    assert words in await env.rejection()


async def test_prefix_with_a_key_of_no_delegation_is_rejected(env: ImportEnv, home: int) -> None:
    await env.subscriber()
    await env.foreign(custom_fields={FIELD: "S-1", KEY: "acme/S-1/ipv6_pd/O-9", SUBSCRIBER: "S-1"})
    [one] = await env.run_import()
    assert (one.verdict, "which no delegation has" in one.reason) == (ImportVerdict.REJECT, True)


async def test_second_prefix_of_a_subscriber_is_rejected(env: ImportEnv, home: int) -> None:
    await env.subscriber()
    first = await env.provision()
    await env.foreign("2001:db8:4000:100::/56")
    assert [(one.verdict.value, one.reason) for one in await env.run_import()] == [
        ("managed", ""),
        ("reject", "is one of 2 prefixes of the same subscriber: a line has one"),
    ]
    assert await env.agree() == [first]


async def test_subscriber_with_a_former_prefix_in_quarantine_is_imported(env: ImportEnv, home: int) -> None:
    await env.provision()
    await env.deprovision()
    await env.subscriber()
    await env.foreign("2001:db8:4000:100::/56")
    assert verdicts(await env.run_import()) == ["managed", "import"]


async def test_duplicate_subscribers_and_duplicate_records_are_rejected(env: ImportEnv, home: int) -> None:
    await asyncio.to_thread(env.peer.send, "PATCH", f"/api/ipam/vrfs/{env.vrf}/", {"enforce_unique": False})
    for n in (1, 2, 3, 4):
        await env.subscriber(f"S-{n}")
    await env.foreign("2001:db8:4000:100::/56", "S-1")
    await env.foreign("2001:db8:4000:200::/56", "S-1")
    await env.foreign("2001:db8:4000:300::/56", "S-2")
    await env.foreign("2001:db8:4000:300::/56", "S-3")
    await env.foreign("2001:db8:4000:400::/56", "S-4")
    judged = await env.run_import()
    assert [one.reason.partition(":")[0] for one in judged] == [
        "is one of 2 prefixes of the same subscriber",
        "is one of 2 prefixes of the same subscriber",
        "is in NetBox twice",
        "is in NetBox twice",
        "",
    ]
    assert await env.owner.fetchval("SELECT string_agg(prefix::text, ' ') FROM delegations") == (
        "2001:db8:4000:400::/56"
    )


@pytest.mark.parametrize("other", ["2001:db8:4000:0:8000::/72", "2001:db8:4000::/44"])
async def test_prefix_that_overlaps_another_is_rejected(env: ImportEnv, home: int, other: str) -> None:
    await env.subscriber()
    await env.foreign()
    id = await env.foreign(other, ref="")
    [one] = await env.run_import()
    assert one.reason.startswith(f"overlaps {other}: ")
    await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{id}/", {"status": "container"})
    assert verdicts(await env.run_import()) == ["import"]


async def test_import_into_a_shared_pool_uses_the_tenant_in_netbox(env: ImportEnv) -> None:
    await env.pool(tenant=None)
    for tenant in ("acme", "other"):
        await env.subscriber(tenant=tenant)
    await env.foreign("2001:db8:4000:100::/56", tenant={"slug": "other"})
    await env.foreign("2001:db8:4000:200::/56", tenant={"slug": "acme"})
    await env.foreign("2001:db8:4000:300::/56")
    judged = await env.run_import(tenant=None)
    assert verdicts(judged) == ["import", "import", "reject"]
    assert "set its tenant in NetBox" in judged[2].reason
    assert await env.owner.fetch("SELECT tenant_id FROM delegations ORDER BY prefix") == [("other",), ("acme",)]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED])
async def test_import_with_lost_requests_is_completed_by_the_next_run(
    env: ImportEnv, home: int, fault: Fault, method: str
) -> None:
    for n in range(4):
        await env.subscriber(f"S-{n}")
        await env.foreign(f"2001:db8:4000:{n}00::/56", f"S-{n}")
    for after in range(6):
        env.server.faults.next(Fault(), method=method, path=PREFIXES, times=after)
        env.server.faults.next(fault, method=method, path=PREFIXES, times=3)  # the client tries three times
        with suppress(NetBoxError):
            await env.run_import()
        env.server.faults.clear()
    await env.run_import()
    assert verdicts(await env.run_import()) == ["managed"] * 4
    assert len(await env.agree()) == 4


async def test_import_killed_before_the_stamp_is_completed_by_the_next_run(env: ImportEnv, home: int) -> None:
    await env.subscriber()
    await env.foreign()
    looking = HeldRequest(env.server, "GET", f"{PREFIXES}{env.records()[0]['id']}/", before_arrival=True)
    task = asyncio.create_task(env.run_import())
    await looking.reached()
    task.cancel()
    await asyncio.wait([task])
    looking.resume()
    assert await env.states() == ["active"]
    assert env.records()[0]["custom_fields"].get(KEY) is None
    assert verdicts(await env.run_import(apply=False)) == ["stamp"]
    assert verdicts(await env.run_import()) == ["stamp"]
    assert await env.agree() == [FIRST]


async def test_prefix_changed_during_the_import_is_rejected(env: ImportEnv, home: int) -> None:
    await env.subscriber()
    id = await env.foreign()
    async with env.database.platform() as platform:
        pool = await pool_named(platform, "home", "acme")
    importer = PrefixImporter(env.database, env.netbox, pool, Purpose.IPV6_PD, run="import-1", actor="ada")
    with ImportScan(pool, "acme", FIELD, TypeAdapter(Reference)) as scan:
        await scan.read(env.netbox.records(vrf_id=env.vrf, within=pool.prefix))
        [[one]] = scan.carried()
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{id}/")
    judged = await importer.import_prefix(one)
    assert "its record was changed meanwhile" in judged.reason


async def test_order_of_the_subscriber_waits_for_its_import(env: ImportEnv, home: int) -> None:
    """Otherwise a deprovision could read what the subscriber holds just before the import."""
    await env.subscriber()
    await env.foreign()
    blocker = await asyncpg.connect(env.database.engine.url.set(drivername="postgresql").render_as_string(False))
    async with blocker.transaction():
        await blocker.execute(
            "INSERT INTO radreply (username, attribute, op, value) VALUES "
            f"('S-1@acme.lastmile', 'Delegated-IPv6-Prefix', ':=', '{FIRST}')"
        )
        importing = asyncio.create_task(env.run_import())
        await env.wait_for_locks(1)
        leaving = asyncio.create_task(env.begin("S-1", "D-1", "deprovision"))
        await env.wait_for_locks(2)
        await blocker.execute("DELETE FROM radreply")
    await blocker.close()
    assert verdicts(await importing) == ["import"]
    await leaving
    assert [one async for one in check(env.database) if one.invariant.number == 5] == []


async def test_import_of_many_prefixes_reads_all_pages(env: ImportEnv) -> None:
    await env.pool(on_release=OnRelease.DELETE)
    await asyncio.gather(*(env.foreign(f"2001:db8:4000:{n:x}00::/56", f"S-{n}") for n in range(1, 256)))
    await asyncio.gather(*(env.foreign(f"2001:db8:4001:{n:x}00::/56", f"T-{n}") for n in range(1, 256)))
    assert len(await env.run_import(apply=False)) == 510
