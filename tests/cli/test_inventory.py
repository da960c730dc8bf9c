"""Tenants, pools and NAS: added once, and shown as tables and as JSON without secrets."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from ipam.modes import ReportingScope
from lastmile.devstack.netbox import NetBoxServer
from lastmile.settings import Settings
from tests.support.commands import POOL, Cli, interrupted, until
from tests.support.delegated_env import DelegatedEnv
from tests.support.faults import Faults, Gate
from tests.support.netbox_peer import Peer
from tests.support.workers import worker_with_netbox


async def test_tenant_pool_and_nas_are_added_once_and_shown(fresh: Cli, tmp_path: Path) -> None:
    for what, advice in (("tenant", "tenant add"), ("pool", "pool add"), ("nas", "nas add")):
        ran = await fresh(what, "list")
        assert (ran.code, f"lastmile {advice}" in ran.out) == (0, True)
        assert (await fresh(what, "list", "--json")).out == ""
    ran = await fresh("status", "S-1")
    assert (ran.code, "lastmile tenant add" in ran.err) == (2, True)

    assert "Tenant acme added" in (await fresh("tenant", "add", "acme", "--name", "Acme Broadband")).out
    assert "exists already" in (await fresh("tenant", "add", "acme", "--name", "Acme Broadband")).out
    (again,) = (await fresh("tenant", "add", "acme", "--name", "Acme Broadband", "--json")).json
    assert again == {"tenant": "acme", "added": False}
    ran = await fresh("tenant", "add", "acme", "--name", "Somebody")
    assert (ran.code, "exists with the name 'Acme Broadband'" in ran.err) == (1, True)

    pool = ("pool", "add", "home", "2001:db8::/40", *POOL)
    assert "65,536 prefixes of /56" in (await fresh(*pool)).out
    assert (await fresh(*pool, "--json")).json[0]["capacity"] == 65536
    ran = await fresh("pool", "add", "more", "2001:db8::/44", "--purpose", "ipv6_pd", "--length", "56", "--force")
    assert (ran.code, "overlaps" in ran.err) == (1, True)

    (tmp_path / "secret").write_text("not-for-eyes\n")
    nas = ("nas", "add", "192.0.2.1", "--name", "bng-1", "--secret-file", str(tmp_path / "secret"))
    assert "NAS bng-1 at 192.0.2.1 added" in (await fresh(*nas)).out
    assert "exists already" in (await fresh(*nas)).out
    (again,) = (await fresh(*nas, "--json")).json
    assert again == {"name": "bng-1", "address": "192.0.2.1", "coa_port": 3799, "added": False}
    typed = await fresh("nas", "add", "192.0.2.1", "--name", "bng-1", stdin="not-for-eyes\n")
    assert "exists already" in typed.out
    assert "not-for-eyes" not in typed.out + typed.err

    (shown,) = (await fresh("tenant", "show", "acme", "--json")).json
    assert (shown["subscribers"], shown["pools"]) == (0, ["home"])
    (shown,) = (await fresh("pool", "show", "home", "--json")).json
    assert (shown["prefix"], shown["capacity"], shown["free"], shown["percent"]) == ("2001:db8::/40", 65536, 65536, 0)
    assert shown["netbox"] == {"mode": "database"}
    assert (await fresh("pool", "list", "--json")).json == [shown]
    (shown,) = (await fresh("nas", "show", "bng-1", "--json")).json
    assert shown == {
        "name": "bng-1",
        "address": "192.0.2.1",
        "coa_address": "192.0.2.1",
        "coa_port": 3799,
        "type": "other",
        "description": "",
    }
    assert "bng-1" in (await fresh("nas", "list")).out
    for what in ("tenant", "pool", "nas"):
        ran = await fresh(what, "show", "nobody")
        assert (ran.code, f"lastmile {what} list" in ran.err) == (1, True)


async def test_command_needs_the_tenant_if_there_are_several(cli: Cli) -> None:
    ran = await cli("status", "S-1")
    assert (ran.code, "name one with --tenant (acme, other)" in ran.err) == (2, True)
    ran = await cli("status", "S-1", "--tenant", "nobody")
    assert (ran.code, "There is no tenant 'nobody'" in ran.err) == (2, True)


async def test_pool_in_netbox_is_added_with_its_prefix_there(fresh: Cli, tmp_path: Path) -> None:
    await fresh("tenant", "add", "acme", "--name", "Acme Broadband")
    add = ("pool", "add", "home", "2001:db8::/40", *POOL)
    add = (*add, "--vrf", "access", "--netbox", "direct")
    ran = await fresh(*add)
    assert (ran.code, "set NETBOX_URL and NETBOX_TOKEN" in ran.err) == (2, True)

    with NetBoxServer() as netbox:
        peer = Peer(netbox.url, netbox.token)
        cli = fresh.but(NETBOX_URL=netbox.url, NETBOX_TOKEN=netbox.token)
        ran = await cli(*add)
        assert (ran.code, "NetBox shows the token no VRFs named 'access'" in ran.err) == (1, True)
        vrf = (await asyncio.to_thread(peer.create, "/api/ipam/vrfs/", name="access"))["id"]
        ran = await cli(*add)
        assert (ran.code, "sees no prefix 2001:db8::/40 in VRF 'access' of NetBox" in ran.err) == (1, True)
        for place in (None, vrf):
            made = await asyncio.to_thread(peer.create, "/api/ipam/prefixes/", prefix="2001:db8::/40", vrf=place)

        (added,) = (await cli(*add, "--json")).json
        assert added["netbox"] == {
            "mode": "direct",
            "prefix_id": made["id"],
            "vrf_id": vrf,
            "on_release": "deprecate",
        }
        assert "NetBox chooses them, below its prefix 2" in (await cli(*add)).out
        assert "NetBox" in (await cli("pool", "list")).out
        assert "prefix 2, direct; on release: deprecate" in (await cli("pool", "show", "home")).out
        assert "netbox_full_since" not in (await cli("pool", "show", "home")).out
        ran = await cli(*add, "--on-release", "delete")
        assert (ran.code, "exists already, with other properties" in ran.err) == (1, True)

        (tmp_path / "order.jsonl").write_text(
            '{"tenant": "acme", "order_id": "O-1", "subscriber_ref": "S-1", "customer": {"ref": "C-1", "name": "Ada"},'
            ' "plan": {"name": "fiber", "download_kbps": 1000, "upload_kbps": 1000},'
            ' "line": {"connection_type": "ftth", "onu_serial": "ACME00000001", "cpe_mac": "00:1a:2b:3c:4d:5e"},'
            ' "addressing": {"vrf": "access"}}'
        )
        ran = await cli("provision", str(tmp_path / "order.jsonl"), "--dry-run", "--json")
        (plan,) = ran.json
        steps = {step["step"]: step["detail"] for step in plan["steps"]}
        assert steps["allocate_ip_address"] == "ipv6_prefix a prefix of ipv6_pd from NetBox in VRF access"

        assert "Created: tenant acme" in (await cli("netbox", "setup")).out
        assert (await cli("netbox", "check")).code == 0
        await asyncio.to_thread(peer.send, "DELETE", f"/api/ipam/prefixes/{made['id']}/")
        ran = await cli("netbox", "check")
        assert (ran.code, "pool home" in ran.out, "deleted" in ran.out) == (1, True, True)
        await asyncio.to_thread(peer.create, "/api/ipam/prefixes/", prefix="2001:db8::/40", vrf=vrf)
        assert "below its prefix 3" in (await cli(*add)).out
        assert (await cli("netbox", "check")).code == 0


async def test_pool_with_invalid_netbox_options_is_refused(fresh: Cli) -> None:
    pool = ("pool", "add", "home", "2001:db8::/56", "--purpose", "ipv6_pd", "--length", "56")
    ran = await fresh(*pool, "--netbox", "sometimes")
    assert (ran.code, "--netbox: must be 'direct' or 'delegated', and is 'sometimes'" in ran.err) == (2, True)
    ran = await fresh(*pool, "--netbox", "direct", "--on-release", "burn")
    assert (ran.code, "--on-release: must be 'deprecate' or 'delete', and is 'burn'" in ran.err) == (2, True)
    ran = await fresh(*pool, "--netbox", "direct")
    assert (ran.code, "2001:db8::/56 is all one /56: NetBox needs a larger prefix" in ran.err) == (2, True)
    ran = await fresh(
        "pool", "add", "wan", "198.51.100.0/24", "--purpose", "ipv4", "--length", "32", "--netbox", "direct"
    )
    assert (ran.code, "NetBox, which chooses prefixes and not host addresses" in ran.err) == (2, True)


async def test_pool_of_mode_delegated_is_added_with_its_block_length(fresh: Cli) -> None:
    await fresh("tenant", "add", "acme", "--name", "Acme Broadband")
    add = ("pool", "add", "home", "2001:db8:4000::/40", *POOL)
    add = (*add, "--netbox", "delegated")
    ran = await fresh(*add, "--block-length", "40")
    assert (ran.code, "a block of this pool can be a /41 to a /56, not a /40" in ran.err) == (2, True)
    with NetBoxServer() as netbox:
        peer = Peer(netbox.url, netbox.token)
        cli = fresh.but(NETBOX_URL=netbox.url, NETBOX_TOKEN=netbox.token)
        peer.create("/api/ipam/prefixes/", prefix="2001:db8:4000::/40", status="container")
        ran = await cli(*add)
        assert "in blocks of /44 that it acquires from NetBox, below its prefix" in ran.out
        assert (await cli(*add)).code == 0, "again"


async def test_pool_set_changes_the_mode(
    fresh: Cli, owner_url: str, temporal_client: Client, temporal_address: str, settings: Settings
) -> None:
    fresh = fresh.but(TEMPORAL_ADDRESS=temporal_address, LASTMILE_TASK_QUEUE=settings.task_queue)
    await fresh("tenant", "add", "acme", "--name", "Acme Broadband")
    add = ("pool", "add", "home", "2001:db8:4000::/40", *POOL)
    await fresh(*add)
    ran = await fresh("pool", "set", "home", "--netbox", "direct")
    assert (ran.code, "set NETBOX_URL and NETBOX_TOKEN" in ran.err) == (2, True)
    with NetBoxServer() as netbox:
        peer = Peer(netbox.url, netbox.token)
        cli = fresh.but(NETBOX_URL=netbox.url, NETBOX_TOKEN=netbox.token)
        ran = await cli("pool", "set", "home", "--netbox", "delegated")
        assert (ran.code, "VRF" in ran.err, "sees no prefix 2001:db8:4000::/40" in ran.err) == (1, False, True)
        await asyncio.to_thread(peer.create, "/api/ipam/prefixes/", prefix="2001:db8:4000::/40", status="container")
        ran = await cli("pool", "set", "home", "--netbox", "delegated")
        assert ran.code == 2
        assert "tenant acme: missing" in ran.err
        await cli("netbox", "setup")
        await asyncio.to_thread(peer.create, "/api/tenancy/tenants/", name="Acme Broadband", slug="acme")

        ran = await cli("pool", "set", "home", "--netbox", "delegated")
        assert ran.code == 3
        assert "Pool home was not changed: a worker carries out the change." in ran.err
        assert f"No worker polls task queue '{settings.task_queue}'" in ran.err

        async with worker_with_netbox(temporal_client, settings, owner_url, netbox):
            (done,) = (await cli("pool", "set", "home", "--netbox", "delegated", "--json")).json
            assert (done["netbox"]["mode"], done["netbox"]["record"], done["netbox"]["block_length"]) == (
                "delegated",
                "block",
                44,
            )
            ran = await cli("pool", "set", "home", "--block-length", "48", "--record", "prefix")
            assert "blocks of /48 in NetBox, which records each prefix" in ran.out
            ran = await cli("pool", "set", "home", "--netbox", "direct", "--on-release", "delete")
            assert "direct: NetBox chooses its prefixes; on release: delete" in ran.out
            assert "direct; on release: delete" in (await cli("pool", "show", "home")).out
            ran = await cli("pool", "set", "home", "--netbox", "delegated")
            assert "which records each prefix; on release: delete" in ran.out, "it loses no record unasked"
            assert (await cli("pool", "set", "home", "--netbox", "direct")).code == 0
            for on_release in ("deprecate", "delete"):
                ran = await cli("pool", "set", "home", "--on-release", on_release)
                assert f"direct: NetBox chooses its prefixes; on release: {on_release}" in ran.out

        for wrong, words in (
            ((), "Say what to change: --exclude"),
            (("--netbox", "sometimes"), "--netbox: must be 'direct' or 'delegated', and is 'sometimes'"),
            (("--record", "prefix"), "only a delegated pool has blocks, and this one is direct"),
            (
                ("--netbox", "delegated", "--block-length", "40"),
                "a block of this pool can be a /41 to a /55, not a /40",
            ),
        ):
            ran = await cli("pool", "set", "home", *wrong)
            assert (ran.code, words in ran.err) == (2, True), ran.err
        ran = await cli("pool", "set", "nothing", "--netbox", "direct")
        assert (ran.code, "There is no pool nothing" in ran.err) == (1, True)
        ran = await cli.but(NETBOX_URL="http://127.0.0.1:1")("pool", "set", "home", "--netbox", "delegated")
        assert (ran.code, "no NetBox answers" in ran.err) == (3, True)


async def test_pool_set_continues_after_an_interrupt(
    fresh: Cli, owner_url: str, temporal_client: Client, temporal_address: str, settings: Settings, faults: Faults
) -> None:
    fresh = fresh.but(TEMPORAL_ADDRESS=temporal_address, LASTMILE_TASK_QUEUE=settings.task_queue)
    client = Client(temporal_client.service_client, data_converter=pydantic_data_converter, interceptors=[faults])
    change = ("pool", "set", "home", "--netbox", "delegated")
    await fresh("tenant", "add", "acme", "--name", "Acme Broadband")
    await fresh("pool", "add", "home", "2001:db8:4000::/40", *POOL)
    gate = faults.before["convert_pool"] = Gate()
    with NetBoxServer() as netbox:
        peer = Peer(netbox.url, netbox.token)
        cli = fresh.but(NETBOX_URL=netbox.url, NETBOX_TOKEN=netbox.token)
        await asyncio.to_thread(peer.create, "/api/ipam/prefixes/", prefix="2001:db8:4000::/40", status="container")
        await cli("netbox", "setup")
        await asyncio.to_thread(peer.create, "/api/tenancy/tenants/", name="Acme Broadband", slug="acme")
        async with worker_with_netbox(client, settings, owner_url, netbox):
            command = await cli.start(*change)
            await until(command.stderr, "converting")
            ran = await interrupted(command)
            assert ran.code == 130
            assert "Interrupted: the change of pool home continues in Temporal, as workflow" in ran.err
            assert "The same command again follows it" in ran.err
            gate.open()
            ran = await cli(*change)
    assert (ran.code, "blocks of /44 in NetBox" in ran.out) == (0, True), ran.err


async def test_pool_show_of_a_delegated_pool_shows_its_maintenance(
    fresh: Cli, owner_url: str, owner: asyncpg.Connection
) -> None:
    with NetBoxServer() as server:
        async with DelegatedEnv.serving(owner_url, owner, server) as env:
            await env.pool("2001:db8:4000::/51", record=ReportingScope.PREFIX)
            (shown,) = (await fresh("pool", "show", "home", "--json")).json
            assert (shown["blocks"], shown["maintained_at"], shown["unreported"]) == (0, None, 0)
            assert "not yet: see `lastmile netbox check`" in (await fresh("pool", "show", "home")).out

            await env.lines(30)
            (shown,) = (await fresh("pool", "show", "home", "--json")).json
            assert (shown["blocks"], shown["unreported"], shown["refused"]) == (2, 30, 0)
            assert shown["lag_seconds"] > 0
            assert shown["netbox_full_since"] is None
            assert not await env.maintain()
            (shown,) = (await fresh("pool", "show", "home", "--json")).json
            (looked_at,) = {row[0] for row in await owner.fetch("SELECT looked_at FROM netbox_blocks WHERE used > 0")}
            assert datetime.fromisoformat(shown["maintained_at"]) == looked_at
            assert (shown["blocks"], shown["unreported"]) == (2, 0)
            assert datetime.fromisoformat(shown["netbox_full_since"]) > looked_at - timedelta(minutes=1)
            words = (await fresh("pool", "show", "home")).out
            assert "delegated, record: prefix; on release: deprecate" in words
            assert "netbox_full_since" in words
            assert f"{looked_at:%Y-%m-%d %H:%M:%S} UTC" in words
            assert "NetBox, full" in (await fresh("pool", "list")).out


async def test_pool_of_documentation_space_needs_force_outside_the_demonstration(
    fresh: Cli, owner_url: str, tmp_path: Path
) -> None:
    add = ("pool", "add", "home", "2001:db8::/40", "--purpose", "ipv6_pd", "--length", "56")
    ran = await fresh(*add)
    assert ran.code == 2
    assert ran.err == (
        "Cannot add pool home: 2001:db8::/40 is not for subscribers: it is in, or contains, 2001:db8::/32 "
        "(documentation, RFC 3849). Choose a prefix of your own, or add --force in a laboratory.\n"
    )
    assert (await fresh("pool", "list", "--json")).out == ""
    (tmp_path / "stack.env").write_text(f"DATABASE_URL={owner_url}\n")  # as the embedded stack says where it runs
    assert (await fresh.but(DATABASE_URL=None)(*add)).code == 0
    ran = await fresh("pool", "add", "none", "ff00::/40", "--purpose", "ipv6_pd", "--length", "56", "--force")
    assert (ran.code, "multicast, RFC 4291" in ran.err) == (2, True)
