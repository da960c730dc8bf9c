"""`lastmile netbox check` and `setup`, as an operator meets them."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.client import Client

from lastmile.db import Database
from lastmile.devstack.netbox import NetBoxServer
from lastmile.settings import Settings
from tests.support.commands import POOL, Cli
from tests.support.netbox_peer import Peer
from tests.support.workers import worker_with_netbox

SUBSCRIBER = """
WITH customer AS (
    INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES ('acme', 'C-1', 'Ada', 'O-1') RETURNING id
), account AS (
    INSERT INTO radcheck (username, attribute, op, value) VALUES ('S-1@acme.lastmile', 'Cleartext-Password', ':=', 'x')
)
INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order) SELECT 'acme', 'S-1', id, 'O-1' FROM customer
"""


@pytest.fixture
def netbox_server() -> Iterator[NetBoxServer]:
    with NetBoxServer() as server:
        yield server


@pytest.fixture
def lastmile(alone: Cli, netbox_server: NetBoxServer) -> Cli:
    return alone.but(NETBOX_URL=netbox_server.url, NETBOX_TOKEN=netbox_server.token)


async def test_setup_creates_what_check_finds_missing(lastmile: Cli) -> None:
    before = await lastmile("netbox", "check")
    assert before.code == 1
    assert "custom field lastmile_key of prefixes (unique text, filter logic exact)" in before.out
    assert "run `lastmile netbox setup`" in before.out
    assert "7 requirements are not met." in before.out

    made = await lastmile("netbox", "setup")
    assert made.code == 0
    assert made.out.count("Created: ") == 7

    again = await lastmile("netbox", "setup")
    assert (again.code, again.out) == (0, "Nothing to do: NetBox has all that Lastmile needs.\n")
    after = await lastmile("netbox", "check")
    assert after.code == 0
    assert after.out.endswith("NetBox has all that Lastmile needs.\n")


async def test_setup_with_a_tenant_creates_it(cli: Cli, database: Database, netbox_server: NetBoxServer) -> None:
    cli = cli.but(NETBOX_URL=netbox_server.url, NETBOX_TOKEN=netbox_server.token)
    assert (await cli("netbox", "setup")).out.count("tenant") == 0
    made = await cli("netbox", "setup", "--tenant", "acme")
    assert (made.code, made.out) == (0, "Created: tenant acme.\n")
    ran = await cli("netbox", "setup", "--tenant", "nobody")
    assert (ran.code, ran.err) == (2, "There is no tenant 'nobody'. The tenants are: acme, other.\n")


async def test_check_and_setup_print_json(lastmile: Cli) -> None:
    before = await lastmile("netbox", "check", "--json")
    assert before.code == 1
    lacking = [one["requirement"] for one in before.json if not one["met"]]
    assert {one["remedy"] for one in before.json if not one["met"]} == {"run `lastmile netbox setup`"}
    made = await lastmile("netbox", "setup", "--json")
    assert made.json == [{"created": requirement} for requirement in lacking]
    after = await lastmile("netbox", "check", "--json")
    assert (after.code, {one["met"] for one in after.json}) == (0, {True})
    assert (await lastmile("netbox", "setup", "--json")).out == ""


async def test_setup_leaves_what_an_operator_must_decide(lastmile: Cli, netbox_server: NetBoxServer) -> None:
    fields = "/api/extras/custom-fields/"
    other_user = Peer(netbox_server.url, netbox_server.token)
    other_user.create(fields, name="lastmile_key", type="text", object_types=["ipam.prefix"])
    made = await lastmile("netbox", "setup")
    assert made.code == 1
    assert made.out.count("Created: ") == 6
    assert "it is not unique; its filter logic is loose" in made.out
    assert "change it in NetBox" in made.out
    [left] = other_user.found(f"{fields}?name=lastmile_key")
    assert (left["unique"], left["filter_logic"]["value"]) == (False, "loose")


async def test_setup_with_a_read_only_token_changes_nothing(lastmile: Cli, netbox_server: NetBoxServer) -> None:
    token = Peer(netbox_server.url, netbox_server.token).token_for("view", "add", "change", "delete")
    checked = await lastmile.but(NETBOX_TOKEN=token)("netbox", "check")
    assert checked.code == 1
    assert "GET extras/custom-fields" in checked.out
    refused = await lastmile.but(NETBOX_TOKEN="f" * 40)("netbox", "setup")
    assert refused.code == 1
    assert "Invalid token" in refused.out
    assert "f" * 40 not in refused.out + refused.err


@pytest.mark.parametrize("command", ["check", "setup"])
@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"NETBOX_URL": None, "NETBOX_TOKEN": None}, 2, "set NETBOX_URL and NETBOX_TOKEN"),
        ({"NETBOX_TOKEN": None}, 2, "NETBOX_TOKEN: must be set where NETBOX_URL is"),
        ({"NETBOX_TOKEN": "two words"}, 2, "NETBOX_TOKEN: must be one word"),
        ({"NETBOX_URL": "netbox.example.net"}, 2, "NETBOX_URL: must be a URL"),
        ({"NETBOX_URL": "https://ada:lovelace@netbox.example.net"}, 2, "belongs in NETBOX_TOKEN"),
        ({"LASTMILE_NETBOX_CA_FILE": "/missing.pem"}, 2, "LASTMILE_NETBOX_CA_FILE: must be an existing file"),
        ({"LASTMILE_NETBOX_LINK": "https://ui.example.net/{x}"}, 2, "LASTMILE_NETBOX_LINK: must be a URL"),
        ({"LASTMILE_NETBOX_LINK": "ui/{subscriber}"}, 2, "LASTMILE_NETBOX_LINK: must be a URL"),
        ({"LASTMILE_NETBOX_TIMEOUT_SECONDS": "30"}, 2, "LASTMILE_NETBOX_TIMEOUT_SECONDS: must be at most 12"),
        ({"NETBOX_URL": "http://127.0.0.1:1"}, 3, "no NetBox answers at http://127.0.0.1:1: is it running"),
    ],
)
async def test_check_of_an_unreachable_netbox_is_unavailable(
    lastmile: Cli, command: str, changes: dict[str, Any], code: int, words: str
) -> None:
    ran = await lastmile.but(**changes)("netbox", command)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    for secret in ("two words", "lovelace"):
        assert secret not in ran.err


async def test_netbox_settings_that_contradict_are_refused(lastmile: Cli) -> None:
    """An error of several settings together names none of them alone."""
    ran = await lastmile.but(LASTMILE_RADIUS_TIMEOUT_SECONDS="20")("netbox", "check")
    assert ran.code == 2
    assert "LASTMILE_RADIUS_TIMEOUT_SECONDS times LASTMILE_RADIUS_TRIES must not exceed 30 seconds" in ran.err


async def test_import_of_prefixes_makes_delegations(
    cli: Cli,
    database: Database,
    netbox_server: NetBoxServer,
    owner_url: str,
    temporal_client: Client,
    settings: Settings,
) -> None:
    """The subscribers have no prefix here yet, and what does not fit is said by prefix."""
    other_user = Peer(netbox_server.url, netbox_server.token)
    lastmile = cli.but(NETBOX_URL=netbox_server.url, NETBOX_TOKEN=netbox_server.token)
    await lastmile("netbox", "setup")
    prefixes = "/api/ipam/prefixes/"
    other_user.create(prefixes, prefix="2001:db8:4000::/40", status="container")
    other_user.create("/api/tenancy/tenants/", name="Acme Broadband", slug="acme")
    add = ("pool", "add", "old", "2001:db8:4000::/40", *POOL)
    bring = ("netbox", "import", "--pool", "old")
    assert (await lastmile(*add)).code == 0
    ran = await lastmile(*bring)
    assert (ran.code, "import into it while it is" in ran.err) == (2, True)
    async with worker_with_netbox(temporal_client, settings, owner_url, netbox_server):
        assert (await lastmile("pool", "set", "old", "--netbox", "direct")).code == 0

    ran = await lastmile(*bring)
    assert (ran.code, ran.out) == (
        0,
        "0 would be imported, 0 are delegations already, 0 are rejected, 0 name no subscriber.\n",
    )
    other_user.create(prefixes, prefix="2001:db8:4000::/56", description="S-1")
    other_user.create(prefixes, prefix="2001:db8:4000:100::/56", description="nobody")
    other_user.create(prefixes, prefix="2001:db8:4000:200::/56")
    async with database.platform() as connection:
        await connection.execute(text(SUBSCRIBER))
    ran = await lastmile(*bring)
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "2001:db8:4000:100::/56 names subscriber nobody, whom tenant acme does not have: provision it first.",
        "1 would be imported, 0 are delegations already, 1 are rejected, 1 name no subscriber.",
        "Nothing was changed. Repeat the command with --apply to import.",
    ]
    link = "https://ui.example.net/workflows?query=WorkflowId%3D%22subscriber%2F{tenant}%2F{subscriber}%22"
    ran = await lastmile.but(LASTMILE_NETBOX_LINK=link)(*bring, "--apply", "--json")
    [record] = other_user.found(f"{prefixes}?cf_lastmile_subscriber=S-1")
    assert record["custom_fields"]["lastmile_link"] == link.format(tenant="acme", subscriber="S-1")
    assert [one.get("verdict") for one in ran.json] == ["import", "reject", None]
    assert ran.json[-1] == {"applied": True, "imported": 1, "managed": 0, "rejected": 1, "others": 1}
    ran = await lastmile(*bring, "--field", "customer")
    assert (ran.code, "NetBox has no custom field 'customer' of prefixes" in ran.err) == (1, True)
    assert "1 are delegations already" in (await lastmile(*bring)).out
