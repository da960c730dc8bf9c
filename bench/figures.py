"""What was measured: a value, the peer's value, and what the figure has to reach."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

__all__ = ["Figure", "Target", "at_least", "at_most", "table", "write"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure has to reach: `ratio ≥ 0.5` is half of what the peer does, `value ≤ 3` is absolute."""

    of: Literal["value", "ratio"]
    sense: Literal["≥", "≤"]
    bound: float

    def __str__(self) -> str:
        return f"{self.of} {self.sense} {self.bound:g}"


def at_least(bound: float) -> Target:
    """So many times the peer's value, or more: for rates."""
    return Target("ratio", "≥", bound)


def at_most(bound: float) -> Target:
    """So many times the peer's value, or less: for times."""
    return Target("ratio", "≤", bound)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    """What the peer is: as much of the same job as cannot be left out."""
    peer_value: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """The value in units of the peer's."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def met(self) -> bool | None:
        """None where nothing has to be reached."""
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


def write(figures: Iterable[Figure], file: Path) -> None:
    """The figures as a JSON list, for programs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([figure.as_json() for figure in figures], indent=1) + "\n")


def table(figures: Sequence[Figure], caption: str) -> Table:
    """The figures for people."""
    shown = Table(title="Lastmile next to its peers", caption=caption, caption_justify="left")
    shown.add_column("figure", ratio=3)
    for heading in ("value", "peer's", "ratio"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("peer", ratio=3)
    shown.add_column("target", no_wrap=True)
    for figure in figures:
        shown.add_row(
            figure.name,
            f"{_short(figure.value)} {figure.unit}",
            _short(figure.peer_value),
            _short(figure.ratio),
            figure.peer or "",
            _verdict(figure),
        )
    return shown


def _short(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _verdict(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"[green]✔ {figure.target}[/]" if figure.met else f"[red]✘ {figure.target}[/]"
