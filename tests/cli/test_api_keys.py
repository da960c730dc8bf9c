"""`lastmile api-key`: a key is shown once, listed without its secret, and revoked."""

from lastmile.db import Database
from lastmile.services.api_keys import find_api_key
from tests.support.commands import Cli

ADD = ("api-key", "add", "crm", "--permission", "orders:write", "--permission", "orders:read")


async def test_api_key_is_shown_once_listed_and_revoked(cli: Cli, database: Database) -> None:
    ran = await cli("api-key", "list")
    assert (ran.code, "lastmile api-key add" in ran.out) == (0, True)
    until = "2099-01-01T00:00:00+00:00"
    (added,) = (await cli(*ADD, "--tenant", "acme", "--system", "--expires", until, "--json")).json
    key = added.pop("key")
    assert {name: added[name] for name in ("tenant", "name", "kind", "state", "permissions", "expires_at")} == {
        "tenant": "acme",
        "name": "crm",
        "kind": "system",
        "state": "active",
        "permissions": ["orders:read", "orders:write"],
        "expires_at": until,
    }
    assert await find_api_key(database, key) is not None

    (listed,) = (await cli("api-key", "list", "--tenant", "acme", "--json")).json
    assert {**listed, "last_used_at": None} == added
    listed_for_people = (await cli("api-key", "list")).out
    assert f"lm_{added['id']}_…" in listed_for_people
    assert key.rpartition("_")[2] not in listed_for_people

    ran = await cli("api-key", "revoke", added["id"])
    assert (ran.code, "after at most 60 seconds" in ran.out) == (0, True)
    assert "was revoked before" in (await cli("api-key", "revoke", added["id"])).out
    assert (await cli("api-key", "list", "--json")).json[0]["state"] == "revoked"
    assert await find_api_key(database, key) is None
    ran = await cli("api-key", "revoke", "unknown")
    assert (ran.code, "lastmile api-key list" in ran.err) == (1, True)


async def test_api_key_for_all_tenants_needs_the_option(cli: Cli, database: Database) -> None:
    ran = await cli(*ADD)
    assert (ran.code, "name one with --tenant (acme, other)" in ran.err) == (2, True)
    ran = await cli(*ADD, "--all-tenants", "--tenant", "acme")
    assert (ran.code, "exclude each other" in ran.err) == (2, True)
    ran = await cli(*ADD, "--all-tenants")
    key = ran.out.split()[-1]
    found = await find_api_key(database, key)
    assert found is not None
    assert (found.tenant, found.kind) == (None, "person")


async def test_api_key_with_wrong_options_is_refused_with_the_rule(cli: Cli) -> None:
    ran = await cli("api-key", "add", "crm", "--permission", "order:write", "--tenant", "acme")
    assert (ran.code, "Did you mean 'orders:write'?" in ran.err) == (2, True)
    ran = await cli(*ADD, "--tenant", "acme", "--expires", "2020-01-01T00:00:00Z")
    assert (ran.code, "--expires: must be a time in the future" in ran.err) == (2, True)
    ran = await cli("api-key", "add", "", "--permission", "orders:read", "--tenant", "acme")
    assert (ran.code, "NAME: must not be empty" in ran.err) == (2, True)
