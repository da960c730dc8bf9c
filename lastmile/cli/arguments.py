"""Strict parsers for numbers and texts on the command line. Click would read `5_6` as 56."""

import re
from collections.abc import Iterable

import typer

from lastmile.errors import InvalidInputError

__all__ = ["check_text", "number", "whole_number"]

# More digits than any option needs. Python refuses numbers of more than 4 300 digits.
_WHOLE_NUMBER = re.compile("-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")

_SURROGATE = re.compile("[\ud800-\udfff]")


def whole_number(typed: str | int) -> int:
    """Parse a whole number. Raises `typer.BadParameter` unless the text has digits only."""
    if not _WHOLE_NUMBER.fullmatch(str(typed)):
        raise typer.BadParameter(f"must be a whole number, written in digits only, and is {typed!r}")
    return int(typed)


def number(typed: str | float) -> float:
    """Parse a decimal number such as 0.5. Raises `typer.BadParameter`."""
    if not _NUMBER.fullmatch(str(typed)):
        raise typer.BadParameter(f"must be a number, as in 24 or 0.5, and is {typed!r}")
    return float(typed)


def check_text(typed: Iterable[str]) -> None:
    """Raise `InvalidInputError` if an argument is not UTF-8: Python passes undecodable bytes as surrogates."""
    for place, argument in enumerate(typed, 1):
        if _SURROGATE.search(argument):
            shown = argument.encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise InvalidInputError(f"Argument {place} is not text in UTF-8: {shown}")
