"""Tests of the format of durations."""

from datetime import timedelta

import pytest

from lastmile.fields.durations import format_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (12, "12 s"),
        (60, "1 min"),
        (3 * 3600 + 20 * 60 + 29, "3 h 20 min"),
        (7 * 86400, "7 d"),
        (86400 + 600, "1 d"),
        (90000, "1 d 1 h"),
    ],
)
def test_format_duration_uses_at_most_two_units(seconds: float, words: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == format_duration(seconds) == words
