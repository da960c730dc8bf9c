"""`lastmile radius template`: shown, edited, checked, chosen and brought back, with clear errors."""

from pathlib import Path

from tests.support.commands import Cli

EDITED = """
[mikrotik]
summary = "MikroTik with a queue"
in_service = ["Mikrotik-Rate-Limit := {upload_kbps}k/{download_kbps}k 0/0"]

[own]
summary = "Our own"
in_service = ["Filter-Id := {plan}"]
"""


async def test_template_is_shown_edited_and_brought_back(fresh: Cli, tmp_path: Path) -> None:
    await fresh("tenant", "add", "acme", "--name", "Acme Broadband")
    shown = await fresh("radius", "template", "show", "mikrotik")
    (tmp_path / "same.toml").write_text(shown.out)
    assert "Template mikrotik: valid." in (await fresh("radius", "template", "check", str(tmp_path / "same.toml"))).out

    ran = await fresh("radius", "template", "set", "-", stdin=EDITED)
    assert (ran.code, ran.out) == (0, "Templates mikrotik, own stored. 0 groups changed.\n")
    ran = await fresh("radius", "template", "use", "own", "--slow-download", "512")
    assert ran.out == "Tenant acme: own; slow lines 512 kbit/s down and 1,000 kbit/s up. 0 groups changed.\n"
    assert (await fresh("radius", "template", "use", "--json")).json == [
        {
            "tenant": "acme",
            "groups": 0,
            "templates": ["own"],
            "slow_download_kbps": 512,
            "slow_upload_kbps": 1000,
        }
    ]
    listed = {one["name"]: one for one in (await fresh("radius", "template", "list", "--json")).json}
    assert [listed[name]["origin"] for name in ("wispr", "mikrotik", "own")] == ["ready", "changed", "added"]
    assert listed["own"]["tenants"] == ["acme"]

    ran = await fresh("radius", "template", "reset", "own")
    assert (ran.code, "tenant acme use it" in ran.err) == (1, True)
    assert "Template mikrotik reset" in (await fresh("radius", "template", "reset", "mikrotik")).out
    assert (await fresh("radius", "template", "show", "mikrotik")).out == shown.out


async def test_wrong_template_is_refused_with_every_mistake(cli: Cli) -> None:
    wrong = '[own]\nsummary = "x"\nin_service = ["Foo := 1", "Filter-Id := {speed}"]\n'
    ran = await cli("radius", "template", "set", "-", stdin=wrong)
    assert ran.code == 1
    assert "own: in_service: Foo := 1: No attribute Foo is in Lastmile's dictionary" in ran.err
    assert "own: in_service: Filter-Id := {speed}: {speed} is not a placeholder" in ran.err
    for content, reason in (
        ("[own", "The file is not TOML"),
        ("", "There is no template"),
        ('[Own]\nsummary = "x"\n', "[Own]: a name has lower-case letters"),
        ("own = 1", "own: Put it into the table of a template"),
        ('[own]\nsummary = "x"\nspeed = 1\n', "[own]: in_service: "),
    ):
        ran = await cli("radius", "template", "check", "-", stdin=content)
        assert (ran.code, reason in ran.err) == (2, True), ran.err
    ran = await cli("radius", "template", "check", "nowhere.toml")
    assert (ran.code, ran.err) == (2, "nowhere.toml cannot be read: No such file or directory.\n")
    ran = await cli("radius", "template", "use", "nobody", "--tenant", "acme")
    assert (ran.code, "There is no template nobody. The templates are accel-ppp, chillispot" in ran.err) == (1, True)
    ran = await cli("radius", "template", "use", "--slow-upload", "0", "--tenant", "acme")
    assert (ran.code, "--slow-upload must be from 1 to 4294967295 kbit/s, and is 0" in ran.err) == (2, True)
