"""`lastmile netbox reconcile`, and what `lastmile audit` says of NetBox, as an operator meets them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import Fault
from lastmile.devstack.netbox.http.http_errors import HttpError
from tests.support.commands import Cli
from tests.support.direct_env import PREFIXES, DirectEnv

FIRST, SECOND = "2001:db8:4000::/56", "2001:db8:4000:100::/56"


@pytest.fixture
def netbox_server() -> Iterator[NetBoxServer]:
    with NetBoxServer() as server:
        yield server


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DirectEnv]:
    """Return an environment with two lines in a direct pool."""
    async with DirectEnv.serving(owner_url, owner, netbox_server) as env:
        await env.pool()
        for n in (1, 2):
            await env.provision(f"S-{n}", f"O-{n}")
        # Like imported lines: without orders, and with RADIUS accounts.
        await owner.execute("DELETE FROM orders")
        yield env


@pytest.fixture
def lastmile(fresh: Cli, env: DirectEnv) -> Cli:
    return fresh.but(NETBOX_URL=env.server.url, NETBOX_TOKEN=env.server.token)


async def changes(env: DirectEnv, n: int, **attributes: Any) -> None:
    record = env.record(f"acme/S-{n}/ipv6_pd/O-{n}")
    assert record is not None
    reply = await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{record['id']}/", attributes)
    assert reply.status_code == 200


async def deletes(env: DirectEnv, n: int) -> None:
    record = env.record(f"acme/S-{n}/ipv6_pd/O-{n}")
    assert record is not None
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{record['id']}/")


async def test_reconcile_lists_differences_and_repairs_them_on_request(lastmile: Cli, env: DirectEnv) -> None:
    ran = await lastmile("netbox", "reconcile")
    assert (ran.code, ran.out, ran.err) == (0, "NetBox and the database agree.\n", "")

    await changes(env, 1, status="reserved")
    await deletes(env, 2)
    before = env.records()
    ran = await lastmile("netbox", "reconcile")
    assert ran.code == 1
    assert "2 differences found" in ran.out
    assert ran.out.endswith("Nothing was changed. --repair repairs NetBox.\n")
    for words in (
        *("drift_in_netbox", FIRST, "S-1's, active: status reserved => active", "--repair corrects it"),
        *("not_in_netbox", SECOND, "NetBox shows no record of it", "--repair creates it again"),
    ):
        assert words in ran.out, ran.out
    assert env.records() == before

    ran = await lastmile("netbox", "reconcile", "--repair")
    assert ran.code == 0
    assert "2 differences repaired" in ran.out
    assert (await lastmile("netbox", "reconcile", "--all")).out == "NetBox and the database agree.\n"
    assert len(await env.agree()) == 2


async def test_reconcile_prints_json(lastmile: Cli, env: DirectEnv) -> None:
    assert (await lastmile("netbox", "reconcile", "--json")).out == ""
    await changes(env, 1, status="reserved")
    theirs = await asyncio.to_thread(env.peer.create, PREFIXES, prefix=SECOND[:-2] + "60", vrf=env.vrf)
    ran = await lastmile("netbox", "reconcile", "--json")
    assert ran.code == 1
    assert [(one["difference"], one["prefix"], one["repaired"], one["repairable"]) for one in ran.json] == [
        ("drift_in_netbox", FIRST, False, True),
        ("occupied_in_netbox", "2001:db8:4000:100::/60", False, False),
    ]
    assert (ran.json[1]["pool"], ran.json[1]["tenant"], ran.json[1]["netbox_id"]) == ("home", "acme", theirs["id"])
    ran = await lastmile("netbox", "reconcile", "--repair", "--json")
    assert ran.code == 1, "one is left"
    assert [(one["repaired"], one["problem"]) for one in ran.json] == [
        (True, None),
        (False, "remove it in NetBox, or deprovision the subscriber and provision it anew"),
    ]


async def test_reconcile_names_what_it_cannot_repair(lastmile: Cli, env: DirectEnv) -> None:
    pool = await env.owner.fetchval("SELECT netbox_prefix_id FROM pools")
    await asyncio.to_thread(env.peer.send, "DELETE", f"{PREFIXES}{pool}/")
    await deletes(env, 1)
    ran = await lastmile("netbox", "reconcile", "--repair")
    assert ran.code == 1
    assert "1 difference repaired" in ran.out
    assert "1 difference left" in ran.out
    words = " ".join(ran.out.split())
    assert "pool_moved_in_netbox" in words
    assert "which is not visible to the token" in words


async def test_reconcile_does_not_promise_a_failed_repair_again(lastmile: Cli, env: DirectEnv) -> None:
    await changes(env, 1, status="reserved")
    rule = Fault(failure=HttpError(400, {"__all__": ["a description begins with a site"]}))
    env.server.faults.chance(rule, 1, method="PATCH")
    said = "a description begins with a site. If this is a validator (CUSTOM_VALIDATORS) of NetBox, let it pass"
    ran = await lastmile("netbox", "reconcile", "--repair")
    assert (ran.code, said in " ".join(ran.out.split())) == (1, True), ran.out

    for options in ((), ("--all",)):
        ran = await lastmile("netbox", "reconcile", *options)
        words = " ".join(ran.out.split())
        assert (ran.code, "--repair could not: NetBox refuses PATCH" in words, said in words) == (1, True, True), words
        assert "--repair does it" not in words
        [one] = (await lastmile("netbox", "reconcile", "--json")).json
        assert (one["repaired"], said in one["problem"]) == (False, True)

    env.server.faults.clear()
    assert (await lastmile("netbox", "reconcile", "--repair")).code == 0
    await changes(env, 1, status="reserved")
    assert "--repair corrects it" in " ".join((await lastmile("netbox", "reconcile")).out.split())


async def test_reconcile_drops_a_failed_repair_when_the_difference_is_gone(lastmile: Cli, env: DirectEnv) -> None:
    await changes(env, 1, status="reserved")
    env.server.faults.next(Fault(failure=HttpError(400, {"__all__": ["not now"]})), method="PATCH")
    assert (await lastmile("netbox", "reconcile", "--repair")).code == 1
    await changes(env, 1, status="active")
    assert (await lastmile("netbox", "reconcile", "--all")).code == 0
    await changes(env, 1, status="reserved")
    assert "--repair corrects it" in " ".join((await lastmile("netbox", "reconcile")).out.split())


async def test_reconcile_of_one_pool_reads_this_pool_only(lastmile: Cli, env: DirectEnv) -> None:
    await env.pool("2001:db8:5000::/40", "second")
    await changes(env, 1, status="reserved")
    assert (await lastmile("netbox", "reconcile", "--pool", "second")).code == 0
    assert (await lastmile("netbox", "reconcile", "--pool", "home")).code == 1
    ran = await lastmile("netbox", "reconcile", "--pool", "hom")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "There is no pool 'hom' that is kept in NetBox; there is home, second.\n"


async def test_reconcile_without_netbox_is_unavailable(lastmile: Cli, env: DirectEnv) -> None:
    await changes(env, 1, status="reserved")
    env.server.stop()
    ran = await lastmile("netbox", "reconcile", "--repair")
    assert (ran.code, ran.out) == (3, "")
    assert "no NetBox answers at" in ran.err
    env.server.start()
    assert (await lastmile("netbox", "reconcile", "--repair")).code == 0


async def test_reconcile_shows_what_it_found_before_netbox_failed(lastmile: Cli, env: DirectEnv) -> None:
    """The command shows the repairs that it made before."""
    for n in (1, 2):
        await changes(env, n, status="reserved")
    env.server.faults.next(Fault(), method="PATCH", path=PREFIXES)
    env.server.faults.next(Fault(proxy=503), method="PATCH", path=PREFIXES, times=3)
    ran = await lastmile("netbox", "reconcile", "--repair")
    assert ran.code == 3
    assert "1 difference repaired" in ran.out
    assert "does not take PATCH" in ran.err
    ran = await lastmile("netbox", "reconcile", "--repair")
    assert (ran.code, "1 difference repaired" in ran.out) == (0, True)


async def test_reconcile_without_pools_in_netbox_says_so(fresh: Cli, netbox_server: NetBoxServer) -> None:
    ran = await fresh("netbox", "reconcile")
    assert (ran.code, ran.err) == (2, "NetBox is not configured: set NETBOX_URL and NETBOX_TOKEN.\n")
    ran = await fresh.but(NETBOX_URL=netbox_server.url, NETBOX_TOKEN=netbox_server.token)("netbox", "reconcile")
    assert (ran.code, ran.out) == (0, "No pool is kept in NetBox.\n")


# The audit


async def test_audit_lists_the_differences_of_netbox(lastmile: Cli, env: DirectEnv) -> None:
    ran = await lastmile("audit")
    assert (ran.code, ran.out, ran.err) == (0, "No violation.\n", "")
    await changes(env, 1, status="reserved")
    ran = await lastmile("audit", "--json")
    assert ran.code == 1
    [one] = ran.json
    assert (one["invariant"], one["tenant"], one["subject"]) == ("drift_in_netbox", "acme", FIRST)
    assert one["meaning"] == "every record in NetBox agrees with the database"
    assert one["remedy"] == "`lastmile netbox reconcile --repair` corrects it"
    assert (await lastmile("audit", "--tenant", "other")).code == 0
    assert (await lastmile("audit", "--tenant", "acme")).code == 1


async def test_audit_without_netbox_does_not_report_success(lastmile: Cli, fresh: Cli, env: DirectEnv) -> None:
    ran = await fresh("audit")
    assert (ran.code, ran.out) == (3, "No violation in the database.\n")
    words = (
        "NetBox was not compared with the database: pools are kept there, and NETBOX_URL and NETBOX_TOKEN are not set."
    )
    assert ran.err == f"{words}\n"
    env.server.stop()
    ran = await lastmile("audit")
    assert (ran.code, ran.out) == (3, "No violation in the database.\n")
    assert "NetBox was not compared with the database: no NetBox answers at" in ran.err
    await env.owner.execute("DELETE FROM radreply")
    ran = await lastmile("audit", "--json")
    assert (ran.code, len(ran.json)) == (1, 2)
    assert "NetBox was not compared" in ran.err
