"""Tests of measurements and their report."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.measurements import Measurement, Target, at_least, at_most, table, write


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [
        (5.0, at_least(0.5), True),
        (4.9, at_least(0.5), False),
        (10.0, at_most(1.0), True),
        (10.1, at_most(1.0), False),
        (3.0, Target("value", "≤", 3), True),
        (4.0, Target("value", "≤", 3), False),
    ],
)
def test_target_at_its_bound_is_met(value: float, target: Target, met: bool) -> None:
    assert Measurement("f", value, "/s", "peer", 10.0, target).met is met


def test_measurement_without_a_target_is_neither_met_nor_missed() -> None:
    assert Measurement("f", 1.0, "/s").met is None


def test_ratio_target_without_a_peer_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a peer"):
        _ = Measurement("f", 1.0, "/s", target=at_least(1.0)).met


def test_report_file_has_every_field_of_every_measurement(tmp_path: Path) -> None:
    file = tmp_path / "build" / "bench.json"
    write([Measurement("rate", 6.0, "/s", "bare", 8.0, at_least(0.5)), Measurement("statements", 3, "")], file)
    assert json.loads(file.read_text()) == [
        {
            "name": "rate",
            "value": 6.0,
            "unit": "/s",
            "peer": "bare",
            "peer_value": 8.0,
            "ratio": 0.75,
            "target": "ratio ≥ 0.5",
            "met": True,
        },
        {
            "name": "statements",
            "value": 3,
            "unit": "",
            "peer": None,
            "peer_value": None,
            "ratio": None,
            "target": None,
            "met": None,
        },
    ]


def test_report_table_marks_met_and_missed_targets() -> None:
    console = Console(width=160, file=io.StringIO())
    slow_and_fast = [
        Measurement(name, value, "/s", "bare", 10, at_least(0.5)) for name, value in (("slow", 1), ("fast", 9))
    ]
    with console.capture() as shown:
        console.print(table(slow_and_fast, ""))
    marks = {line.split()[1]: line for line in shown.get().splitlines() if "ratio ≥" in line}
    assert "✘ ratio ≥ 0.5" in marks["slow"]
    assert "✔ ratio ≥ 0.5" in marks["fast"]
