"""The demo as a newcomer meets it: once, again, and cut off in the middle."""

import os
import re
from pathlib import Path

import asyncpg
import pytest

from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.postgres import EmbeddedPostgres
from tests.support.commands import Cli, interrupted, until


def _demo(alone: Cli, state: Path, temporal_program: Path) -> Cli:
    """A stack of its own, in a directory that other logins may enter, as PostgreSQL's does."""
    path = f"{temporal_program.parent}{os.pathsep}{os.environ['PATH']}"
    return alone.but(LASTMILE_STATE_DIR=str(state), PATH=path, TEMPORAL_ADDRESS=None)


@pytest.mark.freeradius_required
@pytest.mark.prometheus_required
@pytest.mark.curl_required
async def test_interrupted_demo_is_continued(alone: Cli, server_directory: Path, temporal_program: Path) -> None:
    demo = _demo(alone, server_directory / "demo", temporal_program)
    first = await demo.start("demo")
    await until(first.stdout, "S-1006 is deprovisioned")
    interrupted_demo = await interrupted(first)
    assert interrupted_demo.code == 130
    assert "`lastmile demo` continues where this one stopped" in interrupted_demo.out

    second = await demo("demo")
    assert second.code == 0, second.out + second.err
    assert "O-1001, O-1002, O-1003, O-1004, O-1005, O-100" in second.out
    assert "O-1007: ended on" in second.out
    assert "WRONG" not in second.out
    assert re.search(r"Order O-1003 goes through the REST API, the others to Temporal:\n\$ curl -sS http", second.out)
    assert (server_directory / "demo" / "secrets" / "api-token").read_text() not in second.out
    in_service = "The 12 ONUs and CPEs of all lines are in service, as the controllers confirm."
    assert in_service in second.out
    assert re.search(r"deactivate_onu +done +[0-9.]+ *\n *unconfigure_cpe +done", second.out)
    changes = second.out.partition("S-1001 gets another plan and CPE")[2].partition("S-1006 is deprovisioned")[0]
    assert (changes.count("Access-Accept"), changes.count("Access-Reject"), changes.count(" right")) == (3, 1, 4)
    assert (second.out.count("Access-Accept"), second.out.count(" right")) == (7 + 3, 7 + 4)
    assert "acknowledged the Disconnect-Request for session demo-" in second.out
    assert "The next login gets Access-Reject without any address." in second.out
    assert "no other subscriber gets it" in second.out
    assert _in_netbox(second.out) == {"container", "deprecated in quarantine, was S-1006's", "active is S-1007's"}

    dashboard = second.out.partition("dashboard ipv6-lifecycle")[2]
    assert re.search(r"State Distribution +active 6, revoked \d\s", dashboard)
    assert re.search(r"Pool Utilization +acme business 0\.0244 %", dashboard)
    assert re.search(r"Revocation Duration p95 +[0-9.]+ s\s", dashboard)

    third = await demo("demo")
    assert third.code == 0, third.out + third.err
    assert "comes out of quarantine for it" in third.out
    assert re.search(r"O-1006\.\d: activate_onu: HWTC0A1B2C06: VOLTHA at", third.out)
    technician = third.out.partition("The technician visits S-1006")[2].partition("Each line logs in")[0]
    for device, waits_for in (("ONU HWTC0A1B2C06", "has not discovered"), ("CPE 00:1a:2b:00:10:06", "not contacted")):
        assert re.search(rf"{device} .*{waits_for}(.|\n)*--retry(.|\n)*{device} +in service +confirmed", technician)
    assert in_service in technician
    assert "/namespaces/default/workflows/subscriber%2Facme%2FS-1001/" in third.out
    assert _in_netbox(third.out) == _in_netbox(second.out)
    assert not (server_directory / "demo" / "stack.env").exists()


@pytest.mark.freeradius_required
async def test_demo_does_not_use_a_configured_netbox(
    alone: Cli, server_directory: Path, temporal_program: Path
) -> None:
    with NetBoxServer() as server:
        demo = _demo(alone, server_directory / "beside", temporal_program)
        demo = demo.but(NETBOX_URL=server.url, NETBOX_TOKEN=server.token)
        assert (await demo("netbox", "setup")).code == 0
        told = await demo("demo")
        assert told.code == 0, told.out + told.err
        assert "Left out: NETBOX_URL names a NetBox of yours" in told.out
        assert told.out.count("Access-Accept") == 5 + 3
        assert "The 8 ONUs and CPEs of all lines are in service, as the controllers confirm." in told.out
        assert server.store.count("ipam.prefix") == 0
    assert not (server_directory / "beside" / "netbox.db").exists()


def _in_netbox(told: str) -> set[str]:
    """Return the demo's table of NetBox's prefixes, without the prefixes."""
    chapter = told.partition("What NetBox's owner sees")[2].partition("Every run")[0]
    rows = [line.split() for line in chapter.splitlines() if line.strip().startswith("3fff:")]
    return {status if status == "container" else f"{status} {' '.join(words[:-1])}" for _, status, _, *words in rows}


async def test_stack_in_a_state_directory_of_before_the_first_release_says_what_to_do(
    alone: Cli, server_directory: Path, temporal_program: Path
) -> None:
    directory = server_directory / "old"
    directory.mkdir()
    async with EmbeddedPostgres(directory) as postgres:
        owner = await asyncpg.connect(postgres.url)
        await owner.execute("CREATE TABLE alembic_version (version_num) AS SELECT '0019'::text")
        await owner.close()
    stack = _demo(alone, directory, temporal_program)
    for command in ("up", "demo"):
        ran = await stack(command)
        assert ran.code == 3
        assert "Traceback" not in ran.err
        sentence = (
            f"The state directory {directory} was created by a development version of Lastmile, and this version "
            "cannot use it. Remove the directory, or set LASTMILE_STATE_DIR to another one.\n"
        )
        assert sentence in ran.err
