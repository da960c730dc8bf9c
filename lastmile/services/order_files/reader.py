"""Orders from a file of any size or from standard input: JSON Lines, JSON or CSV, read as a stream."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from lastmile.contract import AnyOrder
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.csv_orders import Csv
from lastmile.services.order_files.json_orders import JsonDocument, JsonLines, is_document
from lastmile.services.order_files.record import FileRecord, Form, InvalidRecordError
from lastmile.services.order_files.text_lines import TextLines

__all__ = ["FEW", "NumberedOrder", "OrderFile", "no_orders", "open_orders", "read_orders"]

FEW = 1_000
"""The most orders that `read_orders` returns: it keeps all of them in memory."""


class OrderFile:
    """An open file of orders; `source` is its path or `-`. Raises `InvalidInputError` if the file has no orders."""

    def __init__(self, source: str, stream: BinaryIO) -> None:
        self.name = "Standard input" if source == "-" else source
        self._lines = TextLines(self.name, stream)
        status = os.fstat(stream.fileno())
        self.size = status.st_size if stat.S_ISREG(status.st_mode) and not self._lines.recoded else None
        """The size of the records in bytes; None for a pipe and for a recoded file."""
        self.form = self._form(source)

    def records(self) -> Iterator[FileRecord]:
        """Yield the records of the file, once. Raises `InvalidInputError`."""
        return self.form.records()

    def _form(self, source: str) -> Form:
        lines = iter(self._lines)
        first = next(((number, line) for number, line in lines if line.strip()), None)
        if first is None:
            raise InvalidInputError(no_orders(self.name))
        name = source.lower()
        json = name.endswith((".jsonl", ".ndjson")) or first[1].lstrip().startswith((b"{", b"["))
        if not json or name.endswith(Csv.suffix):
            return Csv(self.name, chain([first], lines))
        if first[1].rstrip().endswith(b"}"):  # a complete object: do not wait for a second line of a pipe
            return JsonLines(chain([first], lines))
        second = next(lines, None)
        rest = chain([first], [second] if second else [], lines)
        document = is_document(first[1], second[1] if second else None)
        return JsonDocument(self.name, rest) if document else JsonLines(rest)


@contextmanager
def open_orders(source: str) -> Iterator[OrderFile]:
    """Open a file of orders, or standard input if `source` is `-`. Raises `InvalidInputError`."""
    with ExitStack() as stack:
        try:
            stream = sys.stdin.buffer if source == "-" else stack.enter_context(Path(source).open("rb"))
        except OSError as failure:
            raise InvalidInputError(f"{source} cannot be read: {failure.strerror}.") from None
        yield OrderFile(source, stream)


@dataclass(frozen=True, slots=True)
class NumberedOrder:
    """An order with the number of its line."""

    line: int
    order: AnyOrder


def read_orders(source: str) -> list[NumberedOrder]:
    """Return all orders of a small file. Raises `InvalidInputError` with every mistake of every line."""
    orders: list[NumberedOrder] = []
    problems: list[str] = []
    first: dict[tuple[str, str], NumberedOrder] = {}
    with open_orders(source) as file:
        for count, record in enumerate(islice(file.records(), FEW + 1)):
            if count == FEW:
                raise InvalidInputError(f"{file.name} has more than {FEW:,} orders: --check takes any number.")
            try:
                here = NumberedOrder(record.line, record.order())
            except InvalidRecordError as bad:
                problems += [f"line {record.line}: {mistake}" for mistake in bad.mistakes]
                continue
            orders.append(here)
            before = first.setdefault((here.order.tenant, here.order.order_id), here)
            if before.order != here.order:
                words = f"{here.order.order_id} is on line {before.line}, too, with other content"
                problems.append(f"line {here.line}: order_id: {words}; an id belongs to one order")
        if problems:
            found = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
            raise InvalidInputError(f"{file.name} has {found}; no order was started:", problems)
        if not orders:
            raise InvalidInputError(no_orders(file.name))
    return orders


def no_orders(name: str) -> str:
    """Say that the file has no orders."""
    return f"{name} has no orders: write one JSON object on each line, or CSV."
