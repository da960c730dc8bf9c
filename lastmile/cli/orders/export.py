"""`lastmile export`: the estate as orders that `lastmile provision` reads, a page of subscribers at a time."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import OutputClosedError, complain
from lastmile.db import Database
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.csv_orders import csv_heading, csv_line
from lastmile.services.order_files.strict_json import json_line
from lastmile.services.subscriber_export import NOTES, Described, estate
from lastmile.subscribers.tenants import list_tenants

__all__ = ["export"]


@dataclass
class Tally:
    """What was exported."""

    orders: int = 0
    left_out: int = 0
    examples: str = ""

    def leave_out(self, subscriber: str, why: str) -> None:
        self.left_out += 1
        if self.left_out <= 5:
            self.examples += f"\n  {subscriber}: {why}"


async def export(*, tenant: str | None, form: str | None, output: Path | None) -> Exit:
    """Write the orders that would provision every live subscriber as it is, by tenant and reference."""
    csv = form == "csv" or (form is None and output is not None and output.suffix.lower() == ".csv")
    tally = Tally()
    async with open_database(load_settings()) as database:
        tenants = await _tenants(database, tenant)
        with _written(output) as stream:
            if csv:
                stream.write(csv_heading(NOTES))
            async for found in _all(database, tenants):
                if found.order is None:
                    tally.leave_out(found.subscriber_ref, found.trouble)
                    continue
                tally.orders += 1
                stream.write(_line(found, csv))
    complain(f"{tally.orders:,} orders exported{f' to {output}' if output else ''}.")
    if tally.left_out:
        complain(f"{tally.left_out:,} subscribers were left out:{tally.examples}")
    return Exit.DONE


async def _tenants(database: Database, tenant: str | None) -> list[str]:
    await check_tenant(database, tenant)
    if tenant is not None:
        return [tenant]
    async with database.platform() as connection:
        return [row["id"] for row in await list_tenants(connection)]


async def _all(database: Database, tenants: list[str]) -> AsyncIterator[Described]:
    for tenant in tenants:
        async for found in estate(database, tenant):
            yield found


def _line(found: Described, csv: bool) -> bytes:
    assert found.order is not None
    if csv:
        return csv_line(found.order, found.notes)
    notes = {name: note for name, note in found.notes.items() if note is not None}
    return json_line(found.order.model_dump(mode="json", exclude_defaults=True) | notes)


@contextmanager
def _written(output: Path | None) -> Iterator[BinaryIO]:
    """A stream to the output; a file is there once it is whole, and an earlier one stays until then."""
    if output is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise OutputClosedError from None
        return
    device = output.exists() and not output.is_file()  # or a pipe: nothing may take its place
    part = output if device else output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as stream:
            yield stream
        if not device:
            part.replace(output)
    except OSError as failure:
        raise InvalidInputError(f"--output: {output} cannot be written: {failure.strerror}.") from None
    finally:
        if not device:
            part.unlink(missing_ok=True)
