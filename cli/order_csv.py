"""Orders as CSV (RFC 4180): a row of columns named by the fields' paths, `customer.ref`, then one order a row.

An empty cell is a field that is left out. Semicolons and tabs do as well as commas: spreadsheets choose.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from cli.exits import BadInput
from cli.mistakes import mistakes
from cli.order_record import REJECTED, BadRecord, is_note
from workflows.contract import ProvisionSubscriber

__all__ = ["COLUMNS", "Csv", "CsvRecord", "csv_heading", "csv_line"]

_DELIMITERS = ",;\t"


def _columns(model: type[BaseModel], above: str = "", required: bool = True) -> Iterator[tuple[str, bool]]:
    """The path of every field that holds a value, and whether an order must have it."""
    for name, field in model.model_fields.items():
        needed = required and field.is_required()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _columns(field.annotation, f"{above}{name}.", needed)
        else:
            yield above + name, needed


_REQUIRED = dict(_columns(ProvisionSubscriber))
COLUMNS = tuple(_REQUIRED)
"""All that an order can have."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the first row says."""

    columns: tuple[str, ...]
    delimiter: str


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """One row, which may be several lines."""

    line: int
    raw: bytes
    sheet: Sheet
    cells: list[str]
    trouble: str = ""
    """Why it has no cells."""

    @property
    def size(self) -> int:
        return len(self.raw)

    def order(self) -> ProvisionSubscriber:
        if self.trouble:
            raise BadRecord([f"is not CSV: {self.trouble}"])
        columns = self.sheet.columns
        if len(self.cells) != len(columns):
            raise BadRecord([f"has {len(self.cells)} cells, and the first row has {len(columns)}"])
        values: dict[str, Any] = {"customer": {}, "plan": {}, "line": {}}
        for column, cell in zip(columns, self.cells, strict=True):
            if cell.strip() and not is_note(column):
                *above, name = column.split(".")
                inner = values
                for part in above:
                    inner = inner.setdefault(part, {})
                inner[name] = cell
        try:
            return ProvisionSubscriber.model_validate_strings(values)
        except ValidationError as failure:
            raise BadRecord(mistakes(failure, ProvisionSubscriber)) from None

    def rejected(self, reason: str) -> bytes:
        delimiter = self.sheet.delimiter
        if self.trouble:
            return _row([reason], delimiter)[:-1] + delimiter.encode() + self.raw.rstrip(b"\r\n") + b"\n"
        old = self.sheet.columns.index(REJECTED) if REJECTED in self.sheet.columns else None
        return _row([reason, *(cell for index, cell in enumerate(self.cells) if index != old)], delimiter)


class Csv:
    """A file of them; `lines` come with their numbers. Raises `BadInput` unless the first row names the columns."""

    suffix = ".csv"

    def __init__(self, name: str, lines: Iterable[tuple[int, bytes]]) -> None:
        self._tape = _Tape(lines)
        first = next(self._tape, "")
        delimiter = max(_DELIMITERS, key=first.count)
        try:
            columns = next(csv.reader([first], delimiter=delimiter, strict=True), [])
        except csv.Error as failure:
            raise BadInput(f"{name} cannot be read: its first row is not CSV ({failure}).") from None
        self._sheet = Sheet(tuple(column.strip() for column in columns), delimiter)
        if problems := list(_wrong(self._sheet.columns)):
            raise BadInput(f"{name} cannot be read: its first row must name the columns of an order.", problems)

    def records(self) -> Iterator[CsvRecord]:
        reader = csv.reader(self._tape, delimiter=self._sheet.delimiter, strict=True)
        while True:
            self._tape.cut()
            cells: list[str] = []
            trouble = ""
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as failure:
                trouble = str(failure)
            if trouble or any(map(str.strip, cells)):
                yield CsvRecord(self._tape.line, self._tape.raw, self._sheet, cells, trouble)

    def head(self) -> bytes:
        columns = [column for column in self._sheet.columns if column != REJECTED]
        return _row([REJECTED, *columns], self._sheet.delimiter)


class _Tape:
    """The lines as text, and what was read of them since the last `cut`: a row with a quoted line break is several."""

    def __init__(self, lines: Iterable[tuple[int, bytes]]) -> None:
        self._lines = iter(lines)
        self._read: list[tuple[int, bytes]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, raw = next(self._lines)
        self._read.append((number, raw))
        # What is not UTF-8 is kept as it is, for the model to refuse and the rejects to show.
        return raw.decode(errors="surrogateescape")

    def cut(self) -> None:
        self._read.clear()

    @property
    def line(self) -> int:
        return self._read[0][0]

    @property
    def raw(self) -> bytes:
        return b"".join(raw for _, raw in self._read)


def _wrong(columns: Sequence[str]) -> Iterator[str]:
    for column, count in Counter(columns).items():
        if column not in _REQUIRED and not is_note(column):
            yield f"{column or 'a column without a name'}: {_nearest(column)}"
        elif count > 1:
            yield f"{column}: stands there {count} times"
    for column, required in _REQUIRED.items():
        if required and column not in columns:
            yield f"{column}: is missing"


def _nearest(column: str) -> str:
    close = get_close_matches(column, COLUMNS, n=1, cutoff=0.5)
    return (
        f"no order has this: did you mean {close[0]!r}?" if close else f"no order has this; it has {', '.join(COLUMNS)}"
    )


def csv_heading(notes: Sequence[str]) -> bytes:
    """The first row of a file of whole orders, with these notes behind them."""
    return _row([*COLUMNS, *notes], ",")


def csv_line(order: ProvisionSubscriber, notes: Mapping[str, str | None]) -> bytes:
    """An order and its notes, a row below that heading."""
    fields = order.model_dump(mode="json", exclude_defaults=True)
    return _row([*(_cell(fields, column) for column in COLUMNS), *(note or "" for note in notes.values())], ",")


def _cell(fields: Any, column: str) -> str:
    for part in column.split("."):
        fields = fields.get(part) if fields else None
    return "" if fields is None else str(fields).lower() if isinstance(fields, bool) else str(fields)


def _row(cells: Sequence[str], delimiter: str) -> bytes:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, lineterminator="\n").writerow(cells)
    return written.getvalue().encode(errors="surrogateescape")
