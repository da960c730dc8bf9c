"""The hours of each day in which something may start."""

from datetime import UTC, datetime, timedelta

import pytest

from lastmile.fields.daily_window import DailyWindow


def utc(written: str) -> datetime:
    return datetime.fromisoformat(written).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "zone", "now", "opens"),
    [
        ("02:00-05:00", "UTC", "2026-05-01T02:00", "2026-05-01T02:00"),
        ("02:00-05:00", "UTC", "2026-05-01T04:59", "2026-05-01T04:59"),
        ("02:00-05:00", "UTC", "2026-05-01T05:00", "2026-05-02T02:00"),
        ("02:00-05:00", "UTC", "2026-05-01T01:00", "2026-05-01T02:00"),
        ("22:00-04:00", "UTC", "2026-05-01T03:00", "2026-05-01T03:00"),
        ("22:00-04:00", "UTC", "2026-05-01T04:00", "2026-05-01T22:00"),
        ("02:00-05:00", "Europe/Berlin", "2026-05-01T00:30", "2026-05-01T00:30"),
        ("02:00-05:00", "Europe/Berlin", "2026-05-01T03:00", "2026-05-02T00:00"),
        ("02:00-05:00", "Asia/Tokyo", "2026-05-01T16:00", "2026-05-01T17:00"),
        # The clock goes from 02:00 to 03:00 at 01:00 UTC: the window has two hours.
        ("02:00-05:00", "Europe/Berlin", "2026-03-29T00:30", "2026-03-29T01:00"),
        ("02:00-05:00", "Europe/Berlin", "2026-03-29T03:00", "2026-03-30T00:00"),
        # All of this window is left out.
        ("02:00-03:00", "Europe/Berlin", "2026-03-29T00:30", "2026-03-30T00:00"),
        # The clock goes from 03:00 back to 02:00 at 01:00 UTC: the window has four hours.
        ("02:00-05:00", "Europe/Berlin", "2026-10-25T00:00", "2026-10-25T00:00"),
        ("02:00-05:00", "Europe/Berlin", "2026-10-25T03:59", "2026-10-25T03:59"),
    ],
)
def test_window_opens_by_the_clock_of_its_zone(window: str, zone: str, now: str, opens: str) -> None:
    assert DailyWindow.parse(window, zone).next_open(utc(now)) == utc(opens)


def test_window_beyond_midnight_has_its_length() -> None:
    assert DailyWindow.parse("22:00-04:30", "UTC").length == timedelta(hours=6.5)


@pytest.mark.parametrize(
    ("written", "zone", "message"),
    [
        ("2-5", "UTC", "must be two times of day, as in 02:00-05:00, and is '2-5'"),
        ("02:00-24:00", "UTC", "must be two times of day"),
        ("02:00-02:00", "UTC", "two different times"),
        ("02:00-05:00", "Mars/Olympus", "'Mars/Olympus' is not a time zone that this machine knows"),
        ("02:00-05:00", "../../etc/passwd", "is not a time zone"),
    ],
)
def test_window_that_cannot_be_read_is_refused_with_the_rule(written: str, zone: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DailyWindow.parse(written, zone)


def test_window_is_written_with_its_zone() -> None:
    window = DailyWindow.parse("02:00-05:00", "Europe/Berlin")
    assert str(window) == "02:00-05:00 Europe/Berlin"
    assert DailyWindow.model_validate_json(window.model_dump_json()) == window
