"""`lastmile controller`: controllers are added, listed, checked and removed; no output contains a secret."""

import asyncio
import base64
import json
import os
import pty
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from lastmile.db import Database
from lastmile.encryption.keys import KeyRing
from lastmile.services.controllers import list_controllers
from tests.support.commands import Cli, Ran
from tests.support.line_controller import DRIVERS, LineController
from tests.support.readme import ROOT

SECRET = "hush-hush"
KEYS = f"k1:{base64.b64encode(bytes(32)).decode()}"


@pytest.fixture
def cli(cli: Cli) -> Cli:
    """With the drivers of `tests/support/drivers`, and an encryption key."""
    return cli.but(PYTHONPATH=str(DRIVERS), LASTMILE_ENCRYPTION_KEYS=KEYS)


@pytest.fixture
async def server() -> AsyncIterator[LineController]:
    async with LineController(SECRET) as server:
        yield server


async def run(cli: Cli, *arguments: str, stdin: str = "") -> Ran:
    """Run the command with an interpreter of its own, which finds the drivers."""
    process = await cli.start("controller", *arguments)
    out, err = await process.communicate(stdin.encode())
    ran = Ran(process.returncode, out.decode(), err.decode())
    assert SECRET not in ran.out + ran.err
    return ran


def read_rest(terminal: int) -> bytes:
    """Read what the other end of the terminal has written; nothing where that end is closed."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def added(name: str, server: LineController | str, *more: str, driver: str = "line-onu") -> tuple[str, ...]:
    url = server if isinstance(server, str) else server.url
    return ("add", name, "--driver", driver, "--url", url, *more)


async def test_controller_is_added_listed_checked_and_removed(
    cli: Cli, database: Database, owner: asyncpg.Connection, server: LineController, tmp_path: Path
) -> None:
    assert "lastmile controller add" in (await run(cli, "list")).out
    (tmp_path / "options.json").write_text(json.dumps({"zone": "north"}))
    ran = await run(
        cli,
        *added("olts", server, "--username", "lastmile", "--tenant", "acme", "--olt", "olt-1", "--olt", "olt-2"),
        *("--timeout", "2.5", "--in-flight", "3", "--ca-file", "/etc/ca.pem"),
        *("--options-file", str(tmp_path / "options.json"), "--json"),
        stdin=f"{SECRET}\n",
    )
    assert (ran.code, ran.err) == (0, "")
    (facts,) = ran.json
    updated_at = facts.pop("updated_at")
    assert facts == {
        "name": "olts",
        "driver": "line-onu",
        "kind": "onu",
        "tenant": "acme",
        "url": server.url,
        "username": "lastmile",
        "ca_file": "/etc/ca.pem",
        "timeout_seconds": 2.5,
        "in_flight": 3,
        "olts": ["olt-1", "olt-2"],
        "models": [],
        "options": {"zone": "north"},
    }
    (stored,) = await list_controllers(database)
    assert stored.endpoint(KeyRing.parse(KEYS)).secret == SECRET
    assert SECRET.encode() not in await owner.fetchval("SELECT secret FROM device_controllers")
    assert (await run(cli, "list", "--json")).json == [facts | {"updated_at": updated_at}]
    assert "OLT olt-1, olt-2 of tenant acme" in (await run(cli, "list")).out
    checked = await run(cli, "check", "--json")
    assert (checked.code, checked.json) == (
        0,
        [{"name": "olts", "url": server.url, "answers": True, "detail": "line controller 1.0"}],
    )
    assert [(told["call"], told["username"], told["zone"]) for told in server.told] == [
        ("check", "lastmile", "north"),
        ("close", "lastmile", "north"),
    ]
    assert (await run(cli, "remove", "olts")).out.startswith("Controller olts removed.")
    unknown = await run(cli, "remove", "olts")
    assert (unknown.code, "lastmile controller list" in unknown.err) == (1, True)
    words = str([dict(row) for row in await owner.fetch("SELECT * FROM audit_log")])
    assert "device_controllers" in words
    assert SECRET not in words


async def test_check_names_each_controller_that_does_not_answer(
    cli: Cli, server: LineController, tmp_path: Path
) -> None:
    async with LineController() as gone:
        pass
    await run(cli, *added("good", server), stdin=SECRET)
    await run(cli, *added("away", gone, "--olt", "olt-1"))
    await run(cli, *added("wrong", server, "--model", "00:1a:2b", driver="line-cpe"), stdin="wrong")
    (tmp_path / "options.json").write_text('{"fails": true}')
    options = ("--options-file", str(tmp_path / "options.json"))
    await run(cli, *added("bad", server, "--olt", "olt-2", *options), stdin=SECRET)
    ran = await run(cli, "check", "--json")
    assert (ran.code, [(one["name"], one["answers"], one["detail"]) for one in ran.json]) == (
        3,
        [
            ("away", False, f"The line controller at {gone.url} does not answer."),
            ("bad", False, "The driver of controller bad failed with KeyError: the log of this process says where."),
            ("good", True, "line controller 1.0"),
            ("wrong", False, "The line controller refuses the password."),
        ],
    )
    assert "lastmile_line_driver.py" in ran.err
    shown = await run(cli, "check")
    assert (shown.code, "does not answer" in shown.out, "line controller 1.0" in shown.out) == (3, True, True)
    keyless = await run(cli.but(LASTMILE_ENCRYPTION_KEYS=None), "check")
    assert (keyless.code, "Set LASTMILE_ENCRYPTION_KEYS" in keyless.out) == (3, True)


async def test_second_controller_for_the_same_devices_is_refused(cli: Cli, server: LineController) -> None:
    assert (await run(cli, *added("one", server), stdin=SECRET)).code == 0
    same = await run(cli, *added("two", server), stdin=SECRET)
    assert (same.code, "Controller one is responsible for all devices of all tenants." in same.err) == (1, True)
    again = await run(cli, *added("one", server, "--tenant", "acme"), stdin=SECRET)
    assert (again.code, "replace it with --replace" in again.err) == (1, True)
    replaced = await run(cli, *added("one", server, "--tenant", "acme", "--replace"), stdin=SECRET)
    assert (replaced.code, "is responsible for all devices of tenant acme" in replaced.out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (added("x", "line://h", driver="line-onus"), "The drivers are: broken-module, "),
        (added("x", "line://h", "--model", "001A2B"), "--model: driver line-onu controls ONUs."),
        (added("x", "line://h", "--olt", "o", driver="line-cpe"), "--olt: driver line-cpe controls CPEs."),
        (added("x", "line://h", "--olt", "no olt"), "  --olt: must be letters, digits, '-', '_' and single dots"),
        (
            added("x", "line://h", "--model", "a\tb", driver="line-cpe"),
            "  --model: must be 1 to 64 characters of printable ASCII",
        ),
        (added("no name", "line://h"), "  NAME: must be letters, digits, '-' and '_'\n"),
        (added("x", "acs.example.net"), "  --url: must be a URL, as in https://acs.example.net:7557, without user"),
        (added("x", f"https://a:{SECRET}@h"), "  --url: must be a URL, as in https://acs.example.net:7557, without"),
        (added("x", "line://h", "--ca-file", "ca.pem"), "  --ca-file: must be an absolute path"),
        (added("x", "line://h", "--timeout", "0"), "  --timeout: must be at least 1\n"),
        (added("x", "line://h", "--in-flight", "0"), "  --in-flight: must be at least 1\n"),
        (added("x", "line://h", "--options-file", "/none"), "--options-file: /none cannot be read: No such file"),
        (added("x", "line://h", "--tenant", "nobody"), "There is no tenant 'nobody'."),
    ],
)
async def test_wrong_options_are_refused_with_the_rule(
    cli: Cli, database: Database, arguments: tuple[str, ...], words: str
) -> None:
    ran = await run(cli, *arguments, stdin=SECRET)
    assert (ran.code, ran.out, words in ran.err) == (2, "", True), ran.err
    assert await list_controllers(database) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON: see line 1, column 2."),
        ("[]", "must contain an object"),
        ('{"zones": "x"}', "zones: Unknown field. Valid fields: zone, fails, watches. Did you mean 'zone'?"),
        ('{"zone": 7}', "zone: must be text\n"),
    ],
)
async def test_wrong_options_of_the_driver_are_refused_with_the_rule(
    cli: Cli, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "options.json").write_text(content)
    ran = await run(cli, *added("x", "line://h", "--options-file", str(tmp_path / "options.json")))
    assert (ran.code, words in ran.err) == (2, True), ran.err


async def test_secret_is_asked_for_on_a_terminal_and_not_shown(
    cli: Cli, database: Database, server: LineController
) -> None:
    controlling, terminal = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lastmile.cli", "controller", *added("olts", server)),
        env=cli.environment,
        cwd=ROOT,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    while termios.tcgetattr(terminal)[3] & termios.ECHO:  # noqa: ASYNC110 -- a terminal sends no notification
        await asyncio.sleep(0.02)
    os.close(terminal)
    os.write(controlling, f"{SECRET}\n".encode())
    assert await process.wait() == 0
    shown = b"".join(iter(lambda: read_rest(controlling), b""))
    os.close(controlling)
    assert b"Password or token" in shown
    assert b"Controller olts is responsible for" in shown
    assert SECRET.encode() not in shown
    (stored,) = await list_controllers(database)
    assert stored.endpoint(KeyRing.parse(KEYS)).secret == SECRET
