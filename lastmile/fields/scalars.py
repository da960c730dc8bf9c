"""Strict types for numbers, truth values, times and addresses, which refuse an ambiguous value.

A spreadsheet can write `100.000` for a hundred thousand, `47000` for a day in 2028 and `WAHR` for true.
"""

import re
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from lastmile.fields.rules import rule_error
from lastmile.fields.stored import is_stored

__all__ = [
    "IPv4Text",
    "IPv6PrefixText",
    "IPv6Text",
    "Moment",
    "Number",
    "TrueOrFalse",
    "WholeNumber",
    "WrittenDecimal",
    "WrittenNumber",
    "address_text",
    "any_case",
]

# More digits than any field needs. Python raises an error of its own above 4300 digits.
_DIGITS = re.compile(r"[0-9]{1,18}")
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")

_ISO_8601 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?([Zz]|[+-]\d\d(:?\d\d(:\d\d)?)?)", re.ASCII)
_MOMENT_RULE = "must be a time in ISO 8601 with its zone, as in 2028-09-01T08:00:00+02:00"

# Temporal's calendars end in 2100.
FIRST_YEAR, LAST_YEAR = 2000, 2099


def _is_written(info: ValidationInfo) -> bool:
    """Return whether the source has only text, as the cells of a table."""
    # `model_validate_strings` sets this mode, which pydantic's type of `mode` leaves out.
    return info.mode == "string"  # type: ignore[comparison-overlap]


def _whole(value: Any, info: ValidationInfo) -> Any:
    return _written_whole(value) if _is_written(info) else _only_whole(value)


def _only_whole(value: Any) -> int:
    if type(value) is not int:  # True is an int
        raise rule_error("must be a whole number")
    return value


def _written_whole(value: Any) -> int:
    if isinstance(value, str):
        if not _DIGITS.fullmatch(value):
            raise rule_error("must be a whole number, written in digits only, as in 100000")
        return int(value)
    return _only_whole(value)


WholeNumber = Annotated[int, BeforeValidator(_whole)]
"""A whole number: a number in JSON and Python, digits in a table."""

WrittenNumber = Annotated[int, BeforeValidator(_written_whole)]
"""A whole number in an environment variable, which is always text."""


def _number(value: Any) -> Any:
    if type(value) not in (int, float):
        raise rule_error("must be a number")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


def _written_decimal(value: Any) -> Any:
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):  # float() reads 1_0 as 10
            raise rule_error("must be a number, written in digits, as in 30 or 0.5")
        return float(value)
    return _number(value)


WrittenDecimal = Annotated[float, BeforeValidator(_written_decimal), Field(allow_inf_nan=False)]
"""A number in an environment variable, which is always text."""


def _true_or_false(value: Any, info: ValidationInfo) -> Any:
    if _is_written(info) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if type(value) is not bool:
        raise rule_error("must be true or false")
    return value


TrueOrFalse = Annotated[bool, BeforeValidator(_true_or_false)]


def _moment(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and _ISO_8601.fullmatch(value):
        try:
            value = datetime.fromisoformat(value.upper())
        except ValueError:  # 30 February
            raise rule_error(f"{_MOMENT_RULE}; this date or time does not exist") from None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise rule_error(_MOMENT_RULE)
    if not FIRST_YEAR <= value.year <= LAST_YEAR and not is_stored(info):
        raise rule_error(f"must be a time in the years {FIRST_YEAR} to {LAST_YEAR}")
    return value


Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A time with its time zone."""


def address_text(value: Any) -> Any:
    """Refuse an address that is a number, such as 3232235777, since it is more likely a mistake."""
    if not isinstance(value, str | IPv4Address | IPv6Address | IPv6Network):
        raise rule_error("must be an IP address, written as text")
    return value


IPv4Text = Annotated[IPv4Address, BeforeValidator(address_text)]
IPv6Text = Annotated[IPv6Address, BeforeValidator(address_text)]
IPv6PrefixText = Annotated[IPv6Network, BeforeValidator(address_text)]


def any_case(value: Any) -> Any:
    """Return the word in lower case, since spreadsheets write `Ftth`."""
    return value.lower() if isinstance(value, str) else value
