"""What became of the orders of a file: progress while they run, then every one of a few, and a summary of many."""

import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lastmile.cli.exit_codes import Exit
from lastmile.cli.orders.rejects import Rejects
from lastmile.cli.orders.runs import Ended
from lastmile.cli.output import complain, console, in_vrf, mark, messages, print_json, say, table
from lastmile.contract import Created, ResultStatus
from lastmile.services.order_files.record import FileRecord, InvalidRecordError

__all__ = ["Report", "addresses", "results"]

FEW = 20
"""So many orders are shown one by one; of more, so many of those that failed."""
TOLD_SECONDS = 60
"""How often progress is told where there is no terminal to show it."""

_ADDRESSES = ("ipv6_prefix", "ipv6_framed_prefix", "ipv6_address", "ipv4_address")
_COLUMNS = ("order", "subscriber", "outcome", "addresses", "reason")
_GOOD = (ResultStatus.COMPLETED, ResultStatus.DEGRADED, "scheduled")
_SPENT = {ResultStatus.ROLLED_BACK, ResultStatus.PARTLY_ROLLED_BACK, ResultStatus.ABANDONED}
Row = tuple[Any, ...]


class Report:
    """Hears of every order of a file of `size` bytes. `async with` shows the progress."""

    def __init__(self, rejects: Rejects, size: int | None, *, as_json: bool) -> None:
        self.told = 0
        """How many orders, and lines that are none, it has heard of."""
        self._rejects = rejects
        self._as_json = as_json
        self._outcomes: Counter[str] = Counter()
        self._before = 0
        self._shown: list[tuple[int, Row]] = []
        self._failed: list[tuple[int, Row]] = []
        self._exit = Exit.DONE
        self._bar = Progress(
            TextColumn("{task.fields[orders]:,} orders"), BarColumn(), _Rate(), TimeRemainingColumn(),
            console=messages, transient=True, disable=not messages.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=size, orders=0)
        self._began = self._next = time.monotonic()

    def __enter__(self) -> Self:
        self._rejects.begin()
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, at: TracebackType | None) -> None:
        self._bar.stop()
        self._rejects.close()

    def ended(self, record: FileRecord, end: Ended, *, before: bool = False) -> None:
        """An order has ended, now or `before` this command."""
        self._before += before
        if end.exit is not Exit.DONE:
            spent = "; this order_id is spent, send it with another" if end.status in _SPENT else ""
            self._rejects.add(record, f"{end.status}: {end.reason}{spent}")
        if self._as_json:
            print_json(end.as_json())
        self._exit = max(self._exit, end.exit)
        self._count(record, end.status, _row(end), failed=end.exit is not Exit.DONE)

    def bad(self, record: FileRecord, bad: InvalidRecordError) -> None:
        """What stands there is no order."""
        self._rejects.add(record, str(bad))
        if self._as_json:
            print_json({"line": record.line, "status": "invalid", "reason": str(bad)})
        self._exit = max(self._exit, Exit.FAILED)
        self._count(record, "invalid", (f"line {record.line}", "", mark("invalid"), "", str(bad)), failed=True)

    @property
    def exit(self) -> Exit:
        return Exit.BAD_INPUT if self._outcomes.keys() == {"invalid"} else self._exit

    def show(self) -> None:
        """All that there is to say at the end."""
        if self.told and not self._as_json:
            if self.told <= FEW:
                console.print(self._all())
            else:
                self._sum_up()
        if self._rejects.words:
            complain(self._rejects.words)

    def _count(self, record: FileRecord, outcome: str, row: Row, *, failed: bool) -> None:
        self.told += 1
        self._outcomes[outcome] += 1
        for rows in (self._shown, *([self._failed] if failed else [])):
            if len(rows) < FEW:
                rows.append((record.line, row))
        self._bar.update(self._task, advance=record.size, orders=self.told)
        self._tell_progress()

    def _tell_progress(self) -> None:
        now = time.monotonic()
        if messages.is_terminal or now - self._next < TOLD_SECONDS:
            return
        self._next = now
        left = self._bar.tasks[0].remaining
        size = self._bar.tasks[0].total
        done = f" ({1 - left / size:.0%})" if left is not None and size else ""
        complain(f"{self.told:,} orders{done} after {now - self._began:,.0f} s")

    def _all(self) -> Table:
        return table("", _COLUMNS, [row for _, row in sorted(self._shown, key=lambda at: at[0])])

    def _sum_up(self) -> None:
        before = f", of which {self._before:,} had ended before" if self._before else ""
        say(f"{self.told:,} orders{before}:")
        rows: list[Row] = [(mark(outcome), f"{count:,}") for outcome, count in self._outcomes.most_common()]
        console.print(table("", ("outcome", "orders"), rows))
        if self._failed:
            console.print(self._first_failures())

    def _first_failures(self) -> Table:
        failed = sum(self._outcomes.values()) - sum(self._outcomes[good] for good in _GOOD)
        title = f"The first {FEW} of {failed:,} that failed" if failed > FEW else "Those that failed"
        return table(title, _COLUMNS, [row for _, row in sorted(self._failed, key=lambda at: at[0])])


class _Rate(ProgressColumn):
    """Orders a second, of late."""

    def render(self, task: Task) -> Text:
        if not task.speed or not task.completed:
            return Text("")
        return Text(f"{task.speed / task.completed * task.fields['orders']:,.1f} /s")


def addresses(created: Created) -> list[str]:
    """List what the line has, or gave back."""
    held = (getattr(created, name) for name in _ADDRESSES)
    return [f"{address}{in_vrf(created.vrf)}" for address in held if address]


def results(end: Ended) -> Table:
    """One order, with its outcome, addresses, and what is to be said about it."""
    return table("", _COLUMNS, [_row(end)])


def _row(end: Ended) -> Row:
    created = end.result.created if end.result else Created()
    return end.order.order_id, end.order.subscriber_ref, mark(end.status), addresses(created), end.reason
