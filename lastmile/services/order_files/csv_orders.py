"""Orders as CSV (RFC 4180): a row of columns named by the fields' paths, `customer.ref`, then one order a row.

An empty cell omits the field. Spreadsheets write semicolons or tabs in place of commas, name the delimiter
on a first line `sep=;`, leave out empty cells at the end of a row, and add empty columns without a name.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from lastmile.contract import AnyOrder, ProvisionSubscriber
from lastmile.contract.operations import OPERATIONS
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.record import OPERATION, REJECTED, InvalidRecordError, is_note, model_of
from lastmile.validation_messages import mistakes, suggest_name

__all__ = ["COLUMNS", "Csv", "CsvRecord", "csv_heading", "csv_line"]

_DELIMITERS = ",;\t"
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?[,;\t]*[\r\n]*', re.IGNORECASE)


def _columns(model: type[BaseModel], above: str = "", required: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield the path of every field with a value, and whether an order must have the field."""
    for name, field in model.model_fields.items():
        needed = required and field.is_required()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _columns(field.annotation, f"{above}{name}.", needed)
        else:
            yield above + name, needed


_REQUIRED = {entry.model: dict(_columns(entry.model)) for entry in OPERATIONS.values()}
"""For each order type, its columns and whether an order must have them."""
COLUMNS = tuple(_REQUIRED[ProvisionSubscriber])
"""The columns of a provision order."""
_READ = {OPERATION, *(column for columns in _REQUIRED.values() for column in columns)}
"""The columns that a file can have."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The columns and the delimiter of a file."""

    columns: tuple[str, ...]
    delimiter: str


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """A row, on one line or on several lines."""

    line: int
    raw: bytes
    sheet: Sheet
    cells: list[str]
    problem: str = ""
    """Why the row has no cells."""

    @property
    def size(self) -> int:
        return len(self.raw)

    def order(self) -> AnyOrder:
        if self.problem:
            raise InvalidRecordError([f"Invalid CSV: {self.problem}"])
        columns = self.sheet.columns
        cells = [cell.strip() for cell in self.cells]  # spaces and no-break spaces do not belong to a value
        if any(cells[len(columns) :]):
            raise InvalidRecordError(
                [f"The row has {len(cells)} cells, but the first row names {len(columns)} columns"]
            )
        if len(cells) < len(columns) and not self.raw.endswith((b"\n", b"\r")):
            words = f"The row ends after {len(cells)} of {len(columns)} cells and without a line end"
            raise InvalidRecordError([f"{words}: the file may be cut off"])
        values: dict[str, Any] = {}
        for column, cell in zip(columns, cells, strict=False):
            if cell and not is_note(column):
                *above, name = column.split(".")
                inner = values
                for part in above:
                    inner = inner.setdefault(part, {})
                inner[name] = cell
        model, values = model_of(values)
        # With an empty group, each missing field of the group is named, and not the group.
        values = {
            column.partition(".")[0]: {} for column, needed in _REQUIRED[model].items() if needed and "." in column
        } | values
        try:
            return model.model_validate_strings(values)
        except ValidationError as failure:
            raise InvalidRecordError(mistakes(failure, model)) from None

    def rejected(self, reason: str) -> bytes:
        delimiter = self.sheet.delimiter
        if self.problem:
            return _row([reason], delimiter)[:-1] + delimiter.encode() + self.raw.rstrip(b"\r\n") + b"\n"
        old = self.sheet.columns.index(REJECTED) if REJECTED in self.sheet.columns else None
        return _row([reason, *(cell for index, cell in enumerate(self.cells) if index != old)], delimiter)


class Csv:
    """Read a file of numbered `lines`. Raises `InvalidInputError` unless the first row names the columns."""

    suffix = ".csv"

    def __init__(self, name: str, lines: Iterable[tuple[int, bytes]]) -> None:
        self._tape = _Tape(lines)
        first = next(self._tape, "")
        if named := _DELIMITER_LINE.fullmatch(first):
            first = next(self._tape, "")
        delimiter = named[1] if named else max(_DELIMITERS, key=first.count)
        if delimiter not in _DELIMITERS:
            raise InvalidInputError(
                f"{name} cannot be read: its delimiter is {delimiter!r}, and must be a comma, semicolon or tab."
            )
        try:
            columns = next(csv.reader([first], delimiter=delimiter, strict=True), [])
        except csv.Error as failure:
            raise InvalidInputError(
                f"{name} cannot be read: its first row is invalid CSV: {_problem(failure)}."
            ) from None
        columns = [column.strip() for column in columns]
        while columns and not columns[-1]:
            columns.pop()
        self._sheet = Sheet(tuple(columns), delimiter)
        if problems := list(_column_problems(self._sheet.columns)):
            raise InvalidInputError(
                f"{name} cannot be read: its first row must name the columns of an order.", problems
            )

    def records(self) -> Iterator[CsvRecord]:
        reader = csv.reader(self._tape, delimiter=self._sheet.delimiter, strict=True)
        while True:
            self._tape.cut()
            cells: list[str] = []
            problem = ""
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as failure:
                problem = _problem(failure)
            if problem or any(map(str.strip, cells)):
                yield CsvRecord(self._tape.line, self._tape.raw, self._sheet, cells, problem)

    def head(self) -> bytes:
        columns = [column for column in self._sheet.columns if column != REJECTED]
        return _row([REJECTED, *columns], self._sheet.delimiter)


class _Tape:
    """The lines as text. Keeps the lines since the last `cut`: a row with a quoted line break has several lines."""

    def __init__(self, lines: Iterable[tuple[int, bytes]]) -> None:
        self._lines = iter(lines)
        self._read: list[tuple[int, bytes]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, raw = next(self._lines)
        self._read.append((number, raw))
        # Bytes that are not UTF-8 stay: the model refuses them, and the file of rejects shows them.
        return raw.decode(errors="surrogateescape")

    def cut(self) -> None:
        self._read.clear()

    @property
    def line(self) -> int:
        return self._read[0][0]

    @property
    def raw(self) -> bytes:
        return b"".join(raw for _, raw in self._read)


def _column_problems(columns: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each unknown, repeated or missing column."""
    for column, count in Counter(columns).items():
        if column not in _READ and not is_note(column):
            yield f"{column}: Unknown column. {_valid(column)}" if column else "A column has no name"
        elif count > 1:
            yield f"{column}: is named {count} times"
    # With a column for the operation, the rows are checked one by one for the columns that their operation needs.
    models = list(_REQUIRED.values()) if OPERATION in columns else [_REQUIRED[ProvisionSubscriber]]
    for column in models[0]:
        if column not in columns and all(required.get(column) for required in models):
            yield f"{column}: is missing"


def _valid(column: str) -> str:
    return suggest_name(column, COLUMNS) or f"Valid columns: {', '.join(COLUMNS)}"


# By the beginning of the message of Python's csv module.
_PROBLEMS = {
    "unexpected end": 'a quote (") opens and nothing closes it',
    "field larger": "a cell is longer than any field",
    "new-line character": "a line end is in a cell without quotes",
}


def _problem(failure: csv.Error) -> str:
    """Describe what is wrong with a row."""
    found = (words for beginning, words in _PROBLEMS.items() if str(failure).startswith(beginning))
    return next(found, 'a quote (") inside a quoted cell must be written twice')


def csv_heading(notes: Sequence[str]) -> bytes:
    """Return the first row of a file with all columns of an order, followed by the notes."""
    return _row([*COLUMNS, *notes], ",")


def csv_line(order: ProvisionSubscriber, notes: Mapping[str, str | None], password: str | None = None) -> bytes:
    """Return the row of an order, its password and its notes, in the order of `csv_heading`."""
    fields = order.model_dump(mode="json", exclude_defaults=True) | {"password": password}
    return _row([*(_cell(fields, column) for column in COLUMNS), *(note or "" for note in notes.values())], ",")


def _cell(fields: Any, column: str) -> str:
    for part in column.split("."):
        fields = fields.get(part) if fields else None
    return "" if fields is None else str(fields).lower() if isinstance(fields, bool) else str(fields)


def _row(cells: Sequence[str], delimiter: str) -> bytes:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, lineterminator="\n").writerow(cells)
    return written.getvalue().encode(errors="surrogateescape")
