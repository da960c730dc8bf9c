"""Arguments of the command line are parsed strictly before a command acts."""

import asyncio
import sys
from inspect import unwrap
from typing import Any, get_args, get_type_hints

import pytest

from tests.cli.test_every_command import ALL
from tests.support.commands import Cli


def types_of(hint: Any) -> set[Any]:
    """The types of an `Annotated` one, those of a union included."""
    return {get_args(hint)[0], *get_args(get_args(hint)[0])}


def test_no_option_is_parsed_as_a_number_by_typer() -> None:
    lax = [
        (words, name)
        for words, command in ALL.items()
        for name, hint in get_type_hints(unwrap(command.callback), include_extras=True).items()
        if name != "return" and {int, float} & types_of(hint) and hint.__metadata__[0].parser is None
    ]
    assert lax == []


@pytest.mark.parametrize("typed", ["5_6", "+56", " 56", "56.0", "5e1", "\u0665\u0666", "", "1" * 19])
async def test_whole_number_option_of_anything_but_digits_is_refused(alone: Cli, typed: str) -> None:
    ran = await alone("pool", "add", "home", "2001:db8::/40", "--purpose", "ipv6_pd", "--length", typed)
    assert (ran.code, ran.out) == (2, "")
    assert "Invalid value for '--length': must be a whole number, written in digits only, and is" in ran.err


@pytest.mark.parametrize("typed", ["1_0", "inf", "nan", "1e2", "1,5", ".5"])
async def test_number_option_of_anything_but_a_decimal_is_refused(alone: Cli, typed: str) -> None:
    ran = await alone("cleanup", "--revoked-days", typed)
    assert (ran.code, ran.out) == (2, "")
    assert "Invalid value for '--revoked-days': must be a number, as in 24 or 0.5, and is" in ran.err


async def test_argument_that_is_not_utf_8_is_refused_in_one_sentence(alone: Cli) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lastmile.cli", "status", b"S-\xff", "--tenant", "acme"),
        env=alone.environment | {"PYTHONUTF8": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (2, b"", b"Argument 2 is not text in UTF-8: S-\\xff\n")
