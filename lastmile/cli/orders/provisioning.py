"""`lastmile provision FILE`: run the orders of a file; with `--check`, only validate it."""

import asyncio
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from lastmile.cli.connections import load_settings, open_operator
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.orders.import_report import FEW, ImportReport
from lastmile.cli.output import print_error, print_json, print_text
from lastmile.client.order_import.importer import BATCH_SIZE, OrderImport
from lastmile.client.order_import.runs import OrderRuns
from lastmile.contract import AnyOrder
from lastmile.errors import InvalidInputError
from lastmile.services.ended_orders import EndedOrders
from lastmile.services.order_files.read_ahead import ReadAhead
from lastmile.services.order_files.reader import OrderFile, no_orders, open_orders
from lastmile.services.order_files.record import InvalidRecordError
from lastmile.services.order_files.rejects_file import RejectsFile

__all__ = ["check", "provision"]

GRACE_SECONDS = 5
"""How long the command waits for running orders after Ctrl-C."""


async def provision(source: str, *, rejects: Path | None, as_json: bool) -> Exit:
    """Run the orders of a file. An order that has ended before does not run again: its result is printed again."""
    settings = load_settings()
    looks_up = settings.database_url is not None and settings.api_url is None  # the API knows ended orders itself
    database = str(settings.database_url) if looks_up else None
    with open_orders(source) as file:
        rejected = RejectsFile(source, rejects, file.form)
        report = ImportReport(rejected, file.size, as_json=as_json)
        last_words = ""
        try:
            async with open_operator(settings) as operator:
                with report:
                    async with (
                        EndedOrders(database, print_error) as ended_orders,
                        OrderRuns(operator, print_error, requested_by=current_user()) as runs,
                    ):
                        orders = OrderImport(ReadAhead(file.records(), BATCH_SIZE), ended_orders, runs, report)
                        try:
                            await orders.run()
                        except asyncio.CancelledError:
                            last_words = await _interrupt(file, orders, runs, report)
                            if source != "-":
                                last_words += f" To continue: {_command(source, rejects, as_json)}"
                            raise
        finally:
            report.show()
            if last_words:
                print_error(last_words)
        if not report.count:
            raise InvalidInputError(no_orders(file.name))
        return report.exit


async def _interrupt(file: OrderFile, orders: OrderImport, runs: OrderRuns, report: ImportReport) -> str:
    """Wait `GRACE_SECONDS` for the running orders after Ctrl-C. Return a summary of all orders."""
    if runs.started or runs.starting:
        settling = asyncio.create_task(runs.settle(GRACE_SECONDS))
        # Python's own handler of a second Ctrl-C raises an exception wherever the program happens to be.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, settling.cancel)
        print_error(
            f"Interrupted: running orders have {GRACE_SECONDS} s to end; no further order starts. Ctrl-C: leave now."
        )
        await asyncio.wait([settling])
    running, starting = len(runs.started), len(runs.starting)
    unfinished = "none is running"
    if running:
        unfinished = f"{running:,} started and continue in Temporal ({_subscribers(runs.started)})"
        unfinished += ": `lastmile status SUBSCRIBER` shows them"
    if starting:
        unfinished += f"; {starting:,} may have been started ({_subscribers(runs.starting)})"
        unfinished += ", Temporal has not answered"
    begun = report.count + running + starting
    # A pipe does not tell how many orders would follow.
    remaining = (
        "what was left" if file.size is None else f"{await orders.count_remaining() + orders.records_read - begun:,}"
    )
    return (
        f"Interrupted. {report.count:,} orders have ended; {unfinished}; {remaining} "
        "had not been started. The same orders again give the same results."
    )


def _subscribers(orders: Sequence[AnyOrder]) -> str:
    return ", ".join(order.subscriber_ref for order in orders[:5]) + (", …" if len(orders) > 5 else "")


def _command(source: str, rejects: Path | None, as_json: bool) -> str:
    options = [*(["--rejects", str(rejects)] if rejects else []), *(["--json"] if as_json else [])]
    return shlex.join(["lastmile", "provision", source, *options])


async def check(source: str, *, as_json: bool) -> Exit:
    """Validate the orders of a file, and start nothing. Needs no server."""
    valid = invalid = 0
    with open_orders(source) as file:
        for record in file.records():
            try:
                record.order()
                valid += 1
            except InvalidRecordError as failure:
                invalid += 1
                if as_json:
                    print_json({"line": record.line, "status": "invalid", "reason": str(failure)})
                elif invalid <= FEW:
                    print_error("\n".join(f"line {record.line}: {mistake}" for mistake in failure.mistakes))
    if not valid + invalid:
        raise InvalidInputError(no_orders(file.name))
    if not as_json:
        shown = f" The first {FEW} are shown." if invalid > FEW else ""
        print_text(
            f"Nothing was started. {valid:,} of {valid + invalid:,} lines are valid orders, {invalid:,} are not.{shown}"
        )
    return Exit.BAD_INPUT if invalid else Exit.DONE
