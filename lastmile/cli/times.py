"""Parsers for times on the command line, by the rule of an order's `not_before`."""

import re
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from lastmile.errors import InvalidInputError
from lastmile.fields.scalars import Moment

__all__ = ["time_in_utc", "zoned_time"]

_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)
_ZONE = re.compile(r"([Zz]|[+-]\d\d(:?\d\d(:\d\d)?)?)$", re.ASCII)
_DATE_LENGTH = len("2026-05-03")


def zoned_time(name: str, typed: str) -> datetime:
    """Parse a time with its zone. `name` is the option or argument. Raises `InvalidInputError`."""
    try:
        return _MOMENT.validate_python(typed)
    except ValidationError as failure:
        (found,) = failure.errors()
        raise InvalidInputError(f"{name}: {found['msg']}, and is {typed!r}.") from None


def time_in_utc(name: str, typed: str) -> datetime:
    """Parse a time, in UTC without a zone, or a date, which means its start. Raises `InvalidInputError`."""
    time = typed[_DATE_LENGTH:] or "T00:00"
    zone = "" if _ZONE.search(time) else "Z"
    try:
        return _MOMENT.validate_python(typed[:_DATE_LENGTH] + time + zone)
    except ValidationError:
        raise InvalidInputError(
            f"{name}: must be a time in ISO 8601 in the years 2000 to 2099, in UTC or with its zone, as in "
            f"2026-05-03T14:00 or 2026-05-03T14:00+02:00, and is {typed!r}."
        ) from None
