"""The output of commands: tables and sentences for people, JSON for scripts, failures on standard error."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from lastmile.errors import LastmileError
from lastmile.fields.unsafe import escape

__all__ = [
    "OutputClosedError",
    "console",
    "fact_table",
    "make_table",
    "messages",
    "outcome_text",
    "print_all",
    "print_error",
    "print_json",
    "print_result",
    "print_text",
]

# Without a terminal, tables are 200 characters wide. `emoji=False`: a part of an IPv6 prefix looks like one, `:100:`.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200


class OutputClosedError(LastmileError):
    """The program that reads the standard output, such as `head`, has closed it."""


class _Output(Console):
    """A console that escapes control characters of older records: they would move the cursor, or hide text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield Rich's own control codes unchanged, and text escaped except for its line ends."""
        for segment in super().render(renderable, options):
            safe = escape(segment.text, keep_lines=True)
            yield segment if segment.control or safe == segment.text else Segment(safe, segment.style)

    def on_broken_pipe(self) -> None:
        raise OutputClosedError


console = _Output(highlight=False, emoji=False, width=_WIDTH)
messages = _Output(stderr=True, highlight=False, emoji=False)

# The style of each outcome; other outcomes have none.
_STYLES = {
    **dict.fromkeys(("completed", "done", "active", "online", "create", "accepted"), "green"),
    **dict.fromkeys(("degraded", "warned", "parked", "revoking", "quarantine", "running", "rolling_back"), "yellow"),
    **dict.fromkeys(
        (
            "rolled_back",
            "partly_rolled_back",
            "undo_failed",
            "abandoned",
            "superseded",
            "failed",
            "refused",
            "lost",
            "unknown",
            "refuse",
        ),
        "bold red",
    ),
    **dict.fromkeys(("skipped", "skip", "ended", "revoked", "undone"), "dim"),
}

# Columns that shrink on a narrow terminal. No other column wraps: a user cannot copy an address that is on two lines.
_PROSE = {"detail", "problem", "reason", "what to do", "what was found", "why"}
_PROSE_WIDTH = 20  # a narrower column is hard to read
# Columns that wrap between words only: each word, such as a prefix, stays on one line.
_WORDS = {"change", "from", "until"}
_SPACE = 2  # between two columns


def print_text(words: str) -> None:
    """Print a sentence. A terminal wraps it between words; a file gets one line."""
    console.print(words, markup=False, soft_wrap=not console.is_terminal)


def print_result(words: str, as_json: bool, **facts: Any) -> None:
    """Print the result of a command: a sentence for people, or its facts for scripts."""
    if as_json:
        print_json(facts)
    else:
        print_text(words)


def print_error(words: str) -> None:
    """Print a warning or failure to standard error."""
    messages.print(words, markup=False, soft_wrap=not messages.is_terminal)


def print_json(value: Any) -> None:
    """Print one line of JSON at once; times as ISO 8601, other types as text. Raises `OutputClosedError`."""
    try:
        print(json.dumps(value, default=_text), flush=True)
    except BrokenPipeError:
        raise OutputClosedError from None


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def outcome_text(outcome: str) -> Text:
    """Return an outcome in its colour."""
    return Text(outcome.replace("_", " "), style=_STYLES.get(outcome, ""))


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], spare: Sequence[str] = ()) -> Table:
    """Make a table. A cell is a text without markup, or a list of lines. Empty columns are omitted.

    On a narrow terminal, `spare` columns are omitted one by one, and named below the table. If that is not enough, the
    cells of each row are printed one below the other, with all columns.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(map(_width, (Text(name), *(row[index] for row in cells)))) for index, name in enumerate(columns)]
    used = [index for index in range(len(columns)) if any(row[index].plain for row in cells)]
    least = {index: _least_width(columns[index], widths[index], [row[index] for row in cells]) for index in used}
    shown, omitted = list(used), [columns.index(name) for name in spare if columns.index(name) in used]
    hidden: list[int] = []
    while sum(least[index] + _SPACE for index in shown) > console.width:
        if not omitted:
            return _one_by_one(title, columns, [[(index, row[index]) for index in used] for row in cells])
        hidden.append(omitted.pop(0))
        shown.remove(hidden[-1])
    made = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        caption=f"Hidden on a narrow terminal: {', '.join(columns[index] for index in hidden)}" if hidden else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),  # with the divider, `_SPACE` between two columns
    )
    for index in shown:
        wraps = columns[index] in _PROSE or columns[index] in _WORDS
        made.add_column(columns[index], overflow="fold", no_wrap=not wraps, min_width=least[index])
    for row in cells:
        made.add_row(*(row[index] for index in shown))
    return made


def _least_width(column: str, width: int, cells: Iterable[Text]) -> int:
    """Return the width below which the column cannot shrink."""
    if column in _PROSE:
        return min(width, _PROSE_WIDTH)
    if column in _WORDS:
        return max(map(cell_len, [column, *(word for cell in cells for word in cell.plain.split())]))
    return width


def _one_by_one(title: str, columns: Sequence[str], rows: Iterable[Iterable[tuple[int, Text]]]) -> Table:
    made = _pairs(title)
    for row in rows:
        for index, cell in row:
            if cell.plain:
                made.add_row(Text(columns[index]), cell)
        made.add_row()
    return made


def _width(cell: Text) -> int:
    return max(map(cell_len, cell.plain.split("\n")))


def _cell(value: Any) -> Text:
    # Escape before the widths are measured: an escaped character is wider. A line feed would forge a row.
    if isinstance(value, Text):
        return value
    lines = value if isinstance(value, list) else ["" if value is None else value]
    return Text("\n".join(escape(str(line)) for line in lines))


def fact_table(title: str, values: dict[str, Any]) -> Table:
    """Make a table of names and values, one a line. Names without a value are omitted."""
    made = _pairs(title)
    for name, value in values.items():
        if value not in (None, ""):
            made.add_row(Text(name), _cell(value))
    return made


def _pairs(title: str) -> Table:
    made = Table(title=title or None, title_justify="left", title_style="bold", box=None, show_header=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    return made


def print_all(
    values: list[dict[str, Any]],
    as_json: bool,
    columns: tuple[str, ...],
    rows: list[Any],
    empty: str,
    spare: tuple[str, ...] = (),
) -> None:
    """Print one JSON object a line, or a table without the `spare` columns if it is narrow, or the words `empty`."""
    if as_json:
        for value in values:
            print_json(value)
    elif rows:
        console.print(make_table("", columns, rows, spare=spare))
    else:
        print_text(empty)
