"""`lastmile provision`: the orders of a file, however many; and `--check`, which only reads it."""

import asyncio
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from lastmile.cli.connections import Temporal, load_settings
from lastmile.cli.exit_codes import Exit
from lastmile.cli.orders.ended_orders import Memory
from lastmile.cli.orders.order_import import AHEAD, Bulk
from lastmile.cli.orders.rejects import Rejects
from lastmile.cli.orders.report import FEW, Report
from lastmile.cli.orders.runs import Runs
from lastmile.cli.output import complain, print_json, say
from lastmile.contract import AnyOrder
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.read_ahead import ReadAhead
from lastmile.services.order_files.reader import OrderFile, no_orders, open_orders
from lastmile.services.order_files.record import InvalidRecordError

__all__ = ["check", "provision"]

GRACE_SECONDS = 5
"""After Ctrl-C, for what runs to end."""


async def provision(source: str, *, rejects: Path | None, as_json: bool) -> Exit:
    """Run the orders of a file; the result of one that has ended before is told again."""
    settings = load_settings()
    database = str(settings.database_url) if settings.database_url else None
    with open_orders(source) as file:
        rejected = Rejects(source, rejects, file.form)
        temporal = await Temporal.connect(settings)
        report = Report(rejected, file.size, as_json=as_json)
        last_words = ""
        try:
            with report:
                async with Memory(database, complain) as memory, Runs(temporal, complain) as runs:
                    bulk = Bulk(ReadAhead(file.records(), AHEAD), memory, runs, report)
                    try:
                        await bulk.run()
                    except asyncio.CancelledError:
                        last_words = await _interrupted(file, bulk, runs, report)
                        if source != "-":
                            last_words += f" To go on: {_command(source, rejects, as_json)}"
                        raise
        finally:
            report.show()
            if last_words:
                complain(last_words)
        if not report.told:
            raise InvalidInputError(no_orders(file.name))
        return report.exit


async def _interrupted(file: OrderFile, bulk: Bulk, runs: Runs, report: Report) -> str:
    """After Ctrl-C: give what runs a moment to end. Returns how things stand then."""
    if runs.started or runs.starting:
        settling = asyncio.create_task(runs.settle(GRACE_SECONDS))
        # Python's own answer to a second Ctrl-C is an exception wherever the program happens to be.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, settling.cancel)
        complain(
            f"Interrupted: running orders have {GRACE_SECONDS} s to end; no further order starts. Ctrl-C: leave now."
        )
        await asyncio.wait([settling])
    running, asked = len(runs.started), len(runs.starting)
    going_on = "none is running"
    if running:
        going_on = f"{running:,} started and go on in Temporal ({_names(runs.started)})"
        going_on += ": `lastmile status SUBSCRIBER` shows them"
    if asked:
        going_on += f"; {asked:,} may have been started ({_names(runs.starting)}), Temporal has not answered"
    begun = report.told + running + asked
    # Nobody knows how much a pipe would still have brought.
    rest = "what was left" if file.size is None else f"{await bulk.count_rest() + bulk.read - begun:,}"
    return (
        f"Interrupted. {report.told:,} orders have ended; {going_on}; {rest} "
        "had not been started. The same orders again give the same results."
    )


def _names(orders: Sequence[AnyOrder]) -> str:
    return ", ".join(order.subscriber_ref for order in orders[:5]) + (", …" if len(orders) > 5 else "")


def _command(source: str, rejects: Path | None, as_json: bool) -> str:
    options = [*(["--rejects", str(rejects)] if rejects else []), *(["--json"] if as_json else [])]
    return shlex.join(["lastmile", "provision", source, *options])


async def check(source: str, *, as_json: bool) -> Exit:
    """Say what is wrong with the lines of a file, and start nothing. Needs no server."""
    good = bad = 0
    with open_orders(source) as file:
        for record in file.records():
            try:
                record.order()
                good += 1
            except InvalidRecordError as failure:
                bad += 1
                if as_json:
                    print_json({"line": record.line, "status": "invalid", "reason": str(failure)})
                elif bad <= FEW:
                    complain("\n".join(f"line {record.line}: {mistake}" for mistake in failure.mistakes))
    if not good + bad:
        raise InvalidInputError(no_orders(file.name))
    if not as_json:
        shown = f" The first {FEW} are shown." if bad > FEW else ""
        say(f"Nothing was started. {good:,} of {good + bad:,} lines are valid orders, {bad:,} are not.{shown}")
    return Exit.BAD_INPUT if bad else Exit.DONE
