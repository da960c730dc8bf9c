"""The hours of each day in which something may start, in a time zone."""

import re
from datetime import UTC, datetime, time, timedelta
from itertools import count
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict

__all__ = ["DailyWindow"]

_WRITTEN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


class DailyWindow(BaseModel):
    """The hours of each day from `start` until before `end`, by the clock of the zone."""

    model_config = ConfigDict(frozen=True)

    start: time
    end: time
    """Not later than `start`: on the next day."""
    zone: str
    """A name of the IANA time zone database."""

    @classmethod
    def parse(cls, written: str, zone: str) -> Self:
        """Read a window such as 02:00-05:00. Raises `ValueError` with the rule."""
        found = _WRITTEN.fullmatch(written)
        if found is None:
            raise ValueError(f"must be two times of day, as in 02:00-05:00, and is {written!r}")
        first, last = written.split("-")
        if first == last:
            raise ValueError(f"must have two different times of day, and is {written!r}")
        _zone(zone)
        return cls(start=time.fromisoformat(first), end=time.fromisoformat(last), zone=zone)

    @property
    def length(self) -> timedelta:
        """The length of the window on a day without a change of the clock."""
        start, end = (timedelta(hours=at.hour, minutes=at.minute) for at in (self.start, self.end))
        return (end - start) % timedelta(days=1)

    def next_open(self, now: datetime) -> datetime:
        """Return `now` while the window is open, and otherwise the time at which it opens, in UTC.

        A clock change can make a window shorter or longer. A window that the change leaves out does not open that day.
        Raises `ValueError` for a zone that this machine does not know.
        """
        zone = _zone(self.zone)
        today = now.astimezone(zone).date()
        for days in count(-1):  # yesterday's window may last beyond midnight
            day = today + timedelta(days=days)
            next_day = day + timedelta(days=1)
            # In UTC: Python compares two times of one zone by their digits.
            opens = datetime.combine(day, self.start, zone).astimezone(UTC)
            closes = datetime.combine(day if self.end > self.start else next_day, self.end, zone).astimezone(UTC)
            if max(opens, now) < closes:
                return max(opens, now).astimezone(UTC)
        raise AssertionError  # for mypy: the loop does not end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M} {self.zone}"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone that this machine knows, such as Europe/Berlin or UTC") from None
