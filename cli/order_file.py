"""Orders from a file: JSON Lines, every line checked before the first one is used."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from pydantic import ValidationError

from cli.exits import BadInput
from cli.mistakes import mistakes
from workflows.contract import ProvisionSubscriber

__all__ = ["NumberedOrder", "read_orders"]


@dataclass(frozen=True, slots=True)
class NumberedOrder:
    """An order, and the line it stands on."""

    line: int
    order: ProvisionSubscriber


def read_orders(source: str) -> list[NumberedOrder]:
    """The orders of a file, or of standard input where `source` is `-`.

    Raises `BadInput` with every mistake of every line.
    """
    orders: list[NumberedOrder] = []
    problems: list[tuple[int, str]] = []
    for number, line in _lines(source):
        try:
            orders.append(NumberedOrder(number, ProvisionSubscriber.model_validate_json(line)))
        except ValidationError as failure:
            problems += [(number, mistake) for mistake in mistakes(failure, ProvisionSubscriber)]
    problems += _reused_ids(orders)
    if problems:
        count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        lines = [f"line {number}: {mistake}" for number, mistake in sorted(problems, key=itemgetter(0))]
        raise BadInput(f"{_name(source)} has {count}; no order was started:", lines)
    if not orders:
        raise BadInput(f"{_name(source)} has no orders: write one JSON object on each line.")
    return orders


def _lines(source: str) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers."""
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as failure:
        raise BadInput(f"{source} cannot be read: {failure.strerror}.") from None
    # Some editors begin a file with a byte order mark, which is not JSON.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if line.strip():
            yield number, line


def _reused_ids(orders: list[NumberedOrder]) -> Iterator[tuple[int, str]]:
    first: dict[tuple[str, str], NumberedOrder] = {}
    for here in orders:
        before = first.setdefault((here.order.tenant, here.order.order_id), here)
        if before.order != here.order:
            words = f"{here.order.order_id} stands on line {before.line} too, with other content"
            yield here.line, f"order_id: {words}; an id belongs to one order"


def _name(source: str) -> str:
    return "Standard input" if source == "-" else source
