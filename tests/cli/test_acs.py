"""`lastmile acs setup`: what it installs in GenieACS, what it says, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lastmile.devstack.genieacs import GenieAcsServer
from lastmile.devstack.genieacs.faults import NbiFault
from lastmile.services.acs_setup import read_extension
from tests.support.commands import Cli

PARTS = [
    "provisions/lastmile-bootstrap",
    "provisions/lastmile-line",
    "presets/lastmile-bootstrap",
    "presets/lastmile-line",
]


@pytest.fixture
def genieacs() -> Iterator[GenieAcsServer]:
    with GenieAcsServer(authorization="Bearer hush-hush") as server:
        yield server


async def add(
    cli: Cli, url: str, driver: str = "genieacs", *, secret: str = "hush-hush", replace: bool = False
) -> None:
    more = ["--replace"] if replace else []
    ran = await cli("controller", "add", "acs", "--driver", driver, "--url", url, *more, stdin=secret)
    assert ran.code == 0, ran.err


async def test_setup_says_what_it_changed_and_what_was_so_already(cli: Cli, genieacs: GenieAcsServer) -> None:
    await add(cli, genieacs.url)
    first = await cli("acs", "setup", "acs")
    assert (first.code, first.err) == (0, "")
    assert first.out.splitlines() == [f"Installed: {part}." for part in PARTS]
    assert [set(genieacs.acs.provisions), set(genieacs.acs.presets)] == [{"lastmile-bootstrap", "lastmile-line"}] * 2

    del genieacs.acs.presets["lastmile-line"]
    again = await cli("acs", "setup", "acs", "--json")
    assert again.json == [{"part": part, "changed": part == "presets/lastmile-line"} for part in PARTS]

    assert (await cli("acs", "setup", "acs")).out.splitlines() == [f"Up to date: {part}." for part in PARTS]


async def test_setup_writes_the_extension_and_leaves_an_equal_file(
    cli: Cli, genieacs: GenieAcsServer, tmp_path: Path
) -> None:
    await add(cli, genieacs.url)
    file = tmp_path / "lastmile.js"
    first = await cli("acs", "setup", "acs", "--extension-file", str(file))
    assert first.out.splitlines()[-1] == f"Installed: {file}."
    assert file.read_text() == read_extension()
    again = await cli("acs", "setup", "acs", "--extension-file", str(file))
    assert again.out.splitlines()[-1] == f"Up to date: {file}."
    refused = await cli("acs", "setup", "acs", "--extension-file", str(tmp_path))
    assert (refused.code, refused.err) == (2, f"--extension-file: {tmp_path} cannot be written: Is a directory.\n")


async def test_setup_of_an_unknown_controller_is_refused(cli: Cli) -> None:
    ran = await cli("acs", "setup", "acs")
    assert (ran.code, ran.out, ran.err) == (
        1,
        "",
        "There is no controller acs: `lastmile controller list` lists all controllers.\n",
    )


async def test_setup_of_a_controller_that_is_no_genieacs_is_refused(cli: Cli) -> None:
    await add(cli, "grpc://127.0.0.1:1", "voltha")
    ran = await cli("acs", "setup", "acs")
    assert (ran.code, ran.out, ran.err) == (
        2,
        "",
        "Controller acs has the driver voltha. `lastmile acs setup` prepares a GenieACS: name a controller with the "
        "driver genieacs.\n",
    )


async def test_setup_of_an_acs_that_is_away_or_refuses_says_why(cli: Cli, genieacs: GenieAcsServer) -> None:
    await add(cli, genieacs.url, secret="wrong")
    refused = await cli("acs", "setup", "acs")
    assert (refused.code, refused.out, "refuses the credentials (401)" in refused.err) == (3, "", True)
    assert "wrong" not in refused.err

    await add(cli, genieacs.url, replace=True)
    genieacs.faults.next(NbiFault.OTHER_SERVER)
    other = await cli("acs", "setup", "acs")
    assert (other.code, other.out, "is not GenieACS's NBI" in other.err) == (3, "", True)

    genieacs.stop()
    away = await cli("acs", "setup", "acs")
    assert (away.code, away.out, f"No GenieACS answers at {genieacs.url}" in away.err) == (3, "", True)
    assert genieacs.acs.provisions == {}
