"""Tenants, pools and NAS: added once, shown to people and to scripts, never with a secret."""

from pathlib import Path

from tests.cli.conftest import Cli


async def test_from_nothing_to_a_network(fresh: Cli, tmp_path: Path) -> None:
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
    assert (ran.code, "is called 'Acme Broadband'" in ran.err) == (1, True)

    pool = ("pool", "add", "home", "2001:db8::/40", "--purpose", "ipv6_pd", "--length", "56", "--tenant", "acme")
    assert "65,536 prefixes of /56" in (await fresh(*pool)).out
    assert (await fresh(*pool, "--json")).json[0]["capacity"] == 65536
    ran = await fresh("pool", "add", "more", "2001:db8::/44", "--purpose", "ipv6_pd", "--length", "56")
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
    assert (await fresh("pool", "list", "--json")).json == [shown]
    (shown,) = (await fresh("nas", "show", "bng-1", "--json")).json
    assert shown == {"name": "bng-1", "address": "192.0.2.1", "coa_port": 3799, "description": ""}
    assert "bng-1" in (await fresh("nas", "list")).out
    for what in ("tenant", "pool", "nas"):
        ran = await fresh(what, "show", "nobody")
        assert (ran.code, f"lastmile {what} list" in ran.err) == (1, True)


async def test_which_tenant(cli: Cli) -> None:
    ran = await cli("status", "S-1")
    assert (ran.code, "say which one with --tenant (acme, other)" in ran.err) == (2, True)
    ran = await cli("status", "S-1", "--tenant", "nobody")
    assert (ran.code, "There is no tenant 'nobody'" in ran.err) == (2, True)
