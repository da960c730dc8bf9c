"""The matrix as a table: what each fault at each activity has come to."""

from collections.abc import Iterable, Iterator, Mapping

import pytest

from tests.workflows.every_way.cases import FLOWS, Case, Fault

__all__ = ["WAY", "seen_in", "table"]

WAY = "way"
"""The property of a test's report that has the case and what became of it: reports reach whatever process tells."""

COLUMNS = 6
WIDTH = 15
NONE = "·"


def seen_in(reports: Iterable[pytest.TestReport]) -> dict[str, str]:
    """In words how each case ended."""
    return dict(told for report in reports for name, told in report.user_properties if name == WAY)


def table(seen: Mapping[str, str]) -> Iterator[str]:
    """The lines, for the cases that were run."""
    faults = list(Fault)
    yield f"P: parked, and released by an operator's word. {NONE}: there is no such thing, or it was not run."
    yield ""
    for first in range(0, len(faults), COLUMNS):
        yield from _part(seen, faults[first : first + COLUMNS])


def _part(seen: Mapping[str, str], faults: list[Fault]) -> Iterator[str]:
    heads = [_wrapped(fault.words) for fault in faults]
    for line in range(max(map(len, heads))):
        yield " " * 26 + "".join(f"{head[line] if line < len(head) else '':<{WIDTH}}" for head in heads)
    for lines, flows in FLOWS.items():
        for operation, flow in flows.items():
            cells = {
                activity: [seen.get(str(Case(operation, activity, fault, lines)), NONE) for fault in faults]
                for activity in flow.activities
            }
            if any(set(row) != {NONE} for row in cells.values()):
                yield f"{operation} of a {lines.value} line" if lines.value else operation
                for activity, row in cells.items():
                    yield f"  {activity:<24}" + "".join(f"{cell:<{WIDTH}}" for cell in row)
    yield ""


def _wrapped(words: str) -> list[str]:
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) >= WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
