"""A measurement: its value, the value of the peer, and its target."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

__all__ = ["Measurement", "Target", "at_least", "at_most", "table", "write"]


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a measurement: `ratio ≥ 0.5` is half of the peer's value, `value ≤ 3` is absolute."""

    of: Literal["value", "ratio"]
    sense: Literal["≥", "≤"]
    bound: float

    def __str__(self) -> str:
        return f"{self.of} {self.sense} {self.bound:g}"


def at_least(bound: float) -> Target:
    """Return the target of a rate: at least `bound` times the peer's value."""
    return Target("ratio", "≥", bound)


def at_most(bound: float) -> Target:
    """Return the target of a duration: at most `bound` times the peer's value."""
    return Target("ratio", "≤", bound)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the report."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    """The peer: the part of the same job that cannot be omitted."""
    peer_value: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """Return the value divided by the peer's value."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def met(self) -> bool | None:
        """Return whether the target is met; None without a target."""
        if self.target is None:
            return None
        measured = self.value if self.target.of == "value" else self.ratio
        if measured is None:
            raise ValueError(f"{self.name}: a target for the ratio needs a peer")
        return measured >= self.target.bound if self.target.sense == "≥" else measured <= self.target.bound

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": self.peer_value,
            "ratio": self.ratio,
            "target": str(self.target) if self.target else None,
            "met": self.met,
        }


def write(measurements: Iterable[Measurement], file: Path) -> None:
    """Write the measurements as a JSON list."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([measurement.as_json() for measurement in measurements], indent=1) + "\n")


def table(measurements: Sequence[Measurement], caption: str) -> Table:
    """Return the measurements as a table."""
    shown = Table(title="Lastmile next to its peers", caption=caption, caption_justify="left")
    shown.add_column("measurement", ratio=3)
    for heading in ("value", "peer's", "ratio"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("peer", ratio=3)
    shown.add_column("target", no_wrap=True)
    for measurement in measurements:
        shown.add_row(
            measurement.name,
            f"{_short(measurement.value)} {measurement.unit}",
            _short(measurement.peer_value),
            _short(measurement.ratio),
            measurement.peer or "",
            _verdict(measurement),
        )
    return shown


def _short(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _verdict(measurement: Measurement) -> str:
    if measurement.target is None:
        return ""
    return f"[green]✔ {measurement.target}[/]" if measurement.met else f"[red]✘ {measurement.target}[/]"
