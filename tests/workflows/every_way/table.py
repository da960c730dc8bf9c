"""The matrix as a table: what each fault at each activity has come to."""

from collections.abc import Iterator, Mapping

import pytest

from tests.workflows.every_way.cases import Case, Fault
from tests.workflows.every_way.rules import OPERATIONS

__all__ = ["RESULTS", "table"]

RESULTS = pytest.StashKey[dict[Case, str]]()
"""Where the tests leave what became of each case."""

COLUMNS = 6
WIDTH = 15
NONE = "·"


def table(seen: Mapping[Case, str]) -> Iterator[str]:
    """The lines, for the cases that were run: in words how each ended."""
    faults = list(Fault)
    yield f"P: parked, and released by an operator's word. {NONE}: there is no such thing, or it was not run."
    yield ""
    for first in range(0, len(faults), COLUMNS):
        yield from _part(seen, faults[first : first + COLUMNS])


def _part(seen: Mapping[Case, str], faults: list[Fault]) -> Iterator[str]:
    heads = [_wrapped(fault.words) for fault in faults]
    for line in range(max(map(len, heads))):
        yield " " * 26 + "".join(f"{head[line] if line < len(head) else '':<{WIDTH}}" for head in heads)
    for operation, flow in OPERATIONS.items():
        yield f"{operation}"
        for activity in flow.activities:
            cells = [seen.get(Case(operation, activity, fault), NONE) for fault in faults]
            yield f"  {activity:<24}" + "".join(f"{cell:<{WIDTH}}" for cell in cells)
    yield ""


def _wrapped(words: str) -> list[str]:
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) >= WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
