"""Rules for every command: JSON for scripts, an error for an unknown tenant, a quiet end where the output is closed."""

import asyncio
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from typer.main import get_command

from lastmile.cli.app import app
from tests.support.commands import Book, Cli, lines

WITHOUT_JSON = {
    "up": "runs until Ctrl-C",
    "demo": "prints a story",
    "api": "runs until Ctrl-C",
    "codec-server": "runs until Ctrl-C",
    "export": "prints JSON Lines anyway",
}


def commands(group: Any = None, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words, through all groups."""
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name), command


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


NEEDED = {
    "update-customer": ["--name", "Ada"],
    "replace-device": ["--onu-serial", "ACME00000002"],
    "relocate": ["--pon-port", "1/1/2"],
}
"""The options that a command needs although none of them alone is required."""


def arguments(command: Any) -> list[str]:
    """Something for each thing that must be given."""
    given = list(NEEDED.get(command.name, []))
    for parameter in command.params:
        if parameter.required:
            value = {
                "time": "2099-01-01T00:00:00Z",
                "id": "acme",
                "invariant": "overlap",
                "file": "-",
                "name": "metrics",
                "mode": "slow",
                "prefix": "2001:db8::/32",
                "download": "100",
                "rate": "100/h",
                "upload": "50",
            }.get(parameter.name or "", "x1")
            given += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return given


ALL = dict(commands())
OF_A_TENANT = [
    words for words, command in ALL.items() if "--tenant" in options(command) and words != ("pool", "add")
]  # which names the tenant of a new pool: tests/cli/test_inventory.py


def test_every_command_that_shows_or_changes_something_has_json() -> None:
    assert {words for words, command in ALL.items() if "--json" not in options(command)} == {
        (name,) for name in WITHOUT_JSON
    }


def test_every_command_and_option_has_help() -> None:
    for words, command in ALL.items():
        assert command.help, words
        for parameter in command.params:
            assert getattr(parameter, "help", None), (words, parameter.name)


@pytest.mark.parametrize("words", OF_A_TENANT, ids=" ".join)
async def test_command_with_an_unknown_tenant_is_refused(cli: Cli, words: tuple[str, ...]) -> None:
    cli = cli.but(NETBOX_URL="http://127.0.0.1:1", NETBOX_TOKEN="t")
    given = arguments(ALL[words])
    if "--exclude" in options(ALL[words]):
        given += ["--exclude", "198.51.100.1"]

    ran = await cli(*words, *given, "--tenant", "nobody")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "There is no tenant 'nobody'. The tenants are: acme, other.\n"


async def test_version_is_that_of_the_package(alone: Cli) -> None:
    assert (await alone("--version")).out == f"lastmile {version('lastmile')}\n"


@pytest.mark.parametrize("command", [("export",), ("status", "{}", "--json"), ("tenant", "list"), ("--help",)])
async def test_output_that_is_closed_early_ends_the_command_quietly(
    cli: Cli, book: Book, worker: None, command: tuple[str, ...]
) -> None:
    await cli("provision", "-", stdin=lines(book.order()))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lastmile.cli", *(word.format(book.ref()) for word in command)),
            *(["--tenant", "acme"] if command[0] in ("export", "status") else []),
            env=cli.environment,
            stdout=writing,
            stderr=asyncio.subprocess.PIPE,
        )
    finally:
        os.close(writing)
    _, err = await process.communicate()
    assert (process.returncode in (1, 141), err) == (True, b"")
