"""Changes of existing pools and NAS: a sentence for operators, and an exit code for scripts."""

from pathlib import Path

import asyncpg

from tests.support.commands import Cli


async def test_pool_is_excluded_extended_drained_and_removed(cli: Cli, owner: asyncpg.Connection) -> None:
    add = ("pool", "add", "v4", "203.0.113.0/28", "--purpose", "ipv4", "--length", "32", "--tenant", "acme")
    (added,) = (await cli(*add, "--exclude", "203.0.113.1-203.0.113.3", "--force", "--json")).json
    assert (added["capacity"], added["excluded"]) == (11, ["203.0.113.1/32", "203.0.113.2/31"])
    ran = await cli("pool", "set", "v4", "--exclude", "203.0.113.14", "--include", "203.0.113.1", "--json")
    assert ran.json[0]["excluded"] == ["203.0.113.2/31", "203.0.113.14/32"]
    ran = await cli("pool", "set", "v4", "--exclude", "192.0.2.1")
    assert (ran.code, "--exclude" in ran.err or "192.0.2.1/32 is not in 203.0.113.0/28" in ran.err) == (2, True)

    assert "203.0.113.0/27" in (await cli("pool", "extend", "v4", "203.0.113.0/27")).out
    await owner.execute(
        "INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,"
        " created_by_order, state) SELECT 'acme', id, 4, '203.0.113.4', 'S-1', 'ipv4', 'k', 'o', 'active'"
        " FROM pools WHERE name = 'v4'"
    )
    ran = await cli("pool", "drain", "v4", "--json")
    assert (ran.code, ran.json[0]["held"], ran.json[0]["holders"][0]["subscriber_ref"]) == (1, 1, "S-1")
    ran = await cli("pool", "remove", "v4")
    assert (ran.code, "subscribers hold 1 prefix" in ran.err, "prefixes" in ran.err) == (1, True, False)
    await owner.execute("UPDATE delegations SET state = 'revoked', released_at = now()")
    ran = await cli("pool", "drain", "v4")
    assert (ran.code, ran.out) == (0, "Pool v4 is closed and empty: `lastmile pool remove v4` removes it.\n")
    assert (await cli("pool", "remove", "v4")).out == "Pool v4 removed.\n"
    ran = await cli("pool", "remove", "v4")
    assert (ran.code, "There is no pool v4" in ran.err) == (1, True)


async def test_nas_is_changed_and_removed_without_showing_its_secret(
    fresh: Cli, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("first")
    await fresh("nas", "add", "192.0.2.1", "--name", "bng", "--secret-file", str(secret))
    secret.write_text("second")
    ran = await fresh("nas", "set", "bng", "--secret-file", str(secret), "--coa-address", "192.0.2.9")
    assert (ran.code, "Restart FreeRADIUS" in ran.out, "second" in ran.out) == (0, True, False)
    assert tuple(await owner.fetchrow("SELECT secret, coa_address FROM nas")) == ("second", "192.0.2.9")
    secret.write_text("s" * 61)
    ran = await fresh("nas", "set", "bng", "--secret-file", str(secret))
    assert (ran.code, ran.err) == (2, "Invalid NAS:\n  the secret: must be text of at most 60 characters\n")
    assert (await fresh("nas", "set", "bng")).code == 2
    assert (await fresh("nas", "remove", "bng", "--json")).json[0]["removed"] is True
    assert (await fresh("nas", "remove", "bng")).code == 1
