"""`lastmile export`: live subscribers as orders that `lastmile provision` reads."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import OutputClosedError, print_error
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.csv_orders import csv_heading, csv_line
from lastmile.services.order_files.strict_json import json_line
from lastmile.services.subscriber_export import NOTES, ExportedSubscriber, export_subscribers

__all__ = ["export"]


@dataclass
class Tally:
    """The numbers of exported and omitted subscribers."""

    orders: int = 0
    omitted: int = 0
    examples: str = ""

    def omit(self, subscriber: str, problem: str) -> None:
        self.omitted += 1
        if self.omitted <= 5:
            self.examples += f"\n  {subscriber}: {problem}"


async def export(*, tenant: str | None, form: str | None, output: Path | None, adopt: bool) -> Exit:
    """Write the provision order of every live subscriber, by tenant and reference; with `adopt`, with passwords."""
    csv = form == "csv" or (form is None and output is not None and output.suffix.lower() == ".csv")
    tally = Tally()
    async with open_database(load_settings()) as database:
        await check_tenant(database, tenant)
        with _open_output(output) as write:
            if csv:
                write(csv_heading(NOTES))
            async for found in export_subscribers(database, tenant, adopt=adopt, asked_by=current_user()):
                if found.order is None:
                    tally.omit(found.subscriber_ref, found.problem)
                    continue
                tally.orders += 1
                write(_line(found, csv))
    print_error(f"{tally.orders:,} orders exported{f' to {output}' if output else ''}.")
    if tally.omitted:
        print_error(f"{tally.omitted:,} subscribers were left out:{tally.examples}")
    return Exit.DONE


def _line(found: ExportedSubscriber, csv: bool) -> bytes:
    assert found.order is not None
    password = None if found.order.password is None else found.order.password.get_secret_value()
    if csv:
        return csv_line(found.order, found.notes, password)
    secret = {} if password is None else {"password": password}
    notes = {name: note for name, note in found.notes.items() if note is not None}
    return json_line(found.order.model_dump(mode="json", exclude_defaults=True) | secret | notes)


@contextmanager
def _open_output(output: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Open the output, and yield its `write`. A file replaces an earlier file when it is complete."""
    if output is None:
        try:
            yield sys.stdout.buffer.write
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise OutputClosedError from None
        return
    device = output.exists() and not output.is_file()  # or a pipe: no file may replace it
    part = output if device else output.with_name(f"{output.name}.part")
    try:
        with _write_failures(output):
            if not device:  # only its owner may read personal data and passwords
                part.unlink(missing_ok=True)
                part.touch(0o600)
            stream = part.open("wb")
        try:
            yield partial(_write, output, stream)
        finally:
            with _write_failures(output):
                stream.close()
        if not device:
            with _write_failures(output):
                part.replace(output)
    finally:
        if not device:
            part.unlink(missing_ok=True)


def _write(output: Path, stream: BinaryIO, content: bytes) -> None:
    with _write_failures(output):
        stream.write(content)


@contextmanager
def _write_failures(output: Path) -> Iterator[None]:
    """Raise `InvalidInputError` if the file cannot be written. A lost database connection is an `OSError`, too."""
    try:
        yield
    except OSError as failure:
        raise InvalidInputError(f"--output: {output} cannot be written: {failure.strerror}.") from None
