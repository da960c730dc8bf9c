"""The output of `lastmile provision`: progress, then each order of a few, or a summary of many."""

import shlex
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, make_table, messages, outcome_text, print_error, print_json, print_text
from lastmile.client.order_import.runs import EndedOrder
from lastmile.contract import Created, ResultStatus
from lastmile.fields.phrases import in_vrf
from lastmile.services.order_files.record import FileRecord, InvalidRecordError
from lastmile.services.order_files.rejects_file import RejectsFile

__all__ = ["ImportReport", "addresses", "exit_code", "order_table"]

FEW = 20
"""Up to this number, orders are shown one by one; of more, so many of those that failed."""
PROGRESS_SECONDS = 60
"""How often progress is printed if the output is not a terminal."""

_ADDRESSES = ("ipv6_prefix", "ipv6_framed_prefix", "ipv6_address", "ipv4_address")
_COLUMNS = ("order", "subscriber", "outcome", "addresses", "reason")
_SUCCEEDED = (ResultStatus.COMPLETED, ResultStatus.DEGRADED, "scheduled")
_SPENT = {ResultStatus.ROLLED_BACK, ResultStatus.PARTLY_ROLLED_BACK, ResultStatus.ABANDONED}
Row = tuple[Any, ...]


class ImportReport:
    """The outcomes of the orders of a file of `size` bytes. `with` shows the progress."""

    def __init__(self, rejects: RejectsFile, size: int | None, *, as_json: bool) -> None:
        self.count = 0
        """The number of orders that have ended, and of invalid records."""
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
        self._began = self._printed_at = time.monotonic()

    def __enter__(self) -> Self:
        self._rejects.begin()
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, at: TracebackType | None) -> None:
        self._bar.stop()
        self._rejects.close()

    def order_ended(self, record: FileRecord, ended: EndedOrder, *, before: bool = False) -> None:
        """Count the order; `before`: it had ended already before this import."""
        self._before += before
        if not ended.succeeded:
            spent = "; this order_id is spent, send it with another" if ended.status in _SPENT else ""
            self._rejects.add(record, f"{ended.status}: {ended.reason}{spent}")
        if self._as_json:
            print_json(ended.as_json())
        self._exit = max(self._exit, exit_code(ended))
        self._add(record, ended.status, _row(ended), failed=not ended.succeeded)

    def record_invalid(self, record: FileRecord, failure: InvalidRecordError) -> None:
        """Count the record as invalid."""
        self._rejects.add(record, str(failure))
        if self._as_json:
            print_json({"line": record.line, "status": "invalid", "reason": str(failure)})
        self._exit = max(self._exit, Exit.FAILED)
        self._add(
            record, "invalid", (f"line {record.line}", "", outcome_text("invalid"), "", str(failure)), failed=True
        )

    @property
    def exit(self) -> Exit:
        return Exit.BAD_INPUT if self._outcomes.keys() == {"invalid"} else self._exit

    def show(self) -> None:
        """Print the outcomes, and where the rejected orders are."""
        if self.count and not self._as_json:
            if self.count <= FEW:
                console.print(self._all())
            else:
                self._show_summary()
        if self._rejects.count:
            print_error(_rejected(self._rejects))

    def _add(self, record: FileRecord, outcome: str, row: Row, *, failed: bool) -> None:
        self.count += 1
        self._outcomes[outcome] += 1
        for rows in (self._shown, *([self._failed] if failed else [])):
            if len(rows) < FEW:
                rows.append((record.line, row))
        self._bar.update(self._task, advance=record.size, orders=self.count)
        self._print_progress()

    def _print_progress(self) -> None:
        now = time.monotonic()
        if messages.is_terminal or now - self._printed_at < PROGRESS_SECONDS:
            return
        self._printed_at = now
        left = self._bar.tasks[0].remaining
        size = self._bar.tasks[0].total
        done = f" ({1 - left / size:.0%})" if left is not None and size else ""
        print_error(f"{self.count:,} orders{done} after {now - self._began:,.0f} s")

    def _all(self) -> Table:
        return make_table("", _COLUMNS, [row for _, row in sorted(self._shown, key=lambda at: at[0])])

    def _show_summary(self) -> None:
        before = f", of which {self._before:,} had ended before" if self._before else ""
        print_text(f"{self.count:,} orders{before}:")
        rows: list[Row] = [(outcome_text(outcome), f"{count:,}") for outcome, count in self._outcomes.most_common()]
        console.print(make_table("", ("outcome", "orders"), rows))
        if self._failed:
            console.print(self._first_failures())

    def _first_failures(self) -> Table:
        failed = sum(self._outcomes.values()) - sum(self._outcomes[status] for status in _SUCCEEDED)
        title = f"The first {FEW} of {failed:,} failed orders" if failed > FEW else "Failed orders"
        return make_table(title, _COLUMNS, [row for _, row in sorted(self._failed, key=lambda at: at[0])])


class _Rate(ProgressColumn):
    """The current rate in orders a second."""

    def render(self, task: Task) -> Text:
        if not task.speed or not task.completed:
            return Text("")
        return Text(f"{task.speed / task.completed * task.fields['orders']:,.1f} /s")


def exit_code(ended: EndedOrder) -> Exit:
    """Return the exit code for the outcome of an order."""
    if ended.unknown:
        return Exit.UNAVAILABLE
    return Exit.DONE if ended.succeeded else Exit.FAILED


def addresses(created: Created) -> list[str]:
    """List the addresses that the order allocated or released."""
    found = (getattr(created, name) for name in _ADDRESSES)
    return [f"{address}{in_vrf(created.vrf)}" for address in found if address]


def order_table(ended: EndedOrder) -> Table:
    """Make a table of one order: its outcome, addresses and reason."""
    return make_table("", _COLUMNS, [_row(ended)])


def _row(ended: EndedOrder) -> Row:
    created = ended.result.created if ended.result else Created()
    return (
        ended.order.order_id,
        ended.order.subscriber_ref,
        outcome_text(ended.status),
        addresses(created),
        ended.reason,
    )


def _rejected(rejects: RejectsFile) -> str:
    """Say where the rejected orders are, and what to do with them."""
    these = "One order was rejected" if rejects.count == 1 else f"{rejects.count:,} orders were rejected"
    if rejects.failure:
        return f"{these}, and {rejects.failure}. Name another file with --rejects, and send the same orders again."
    if rejects.path is None:
        return f"{these}. With --rejects FILE, the same orders again write them to a file with the reasons."
    command = shlex.join(["lastmile", "provision", str(rejects.path)])
    return f"{these}: fix them in {rejects.path}, which names the reasons, and submit that file: {command}"
