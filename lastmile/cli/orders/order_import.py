"""A file of orders, run to its end: however long it is, so many of its lines are in memory and no more."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial

from lastmile.cli.orders.ended_orders import Memory
from lastmile.cli.orders.report import Report
from lastmile.cli.orders.runs import Ended, Runs
from lastmile.contract import AnyOrder
from lastmile.services.order_files.read_ahead import ReadAhead
from lastmile.services.order_files.record import FileRecord, InvalidRecordError

__all__ = ["AHEAD", "Bulk"]

AHEAD = 256
"""So many lines are read, and looked up in the database, at a time."""


class Bulk:
    """Runs the orders that have not ended yet; tells `report` of every one."""

    def __init__(self, records: ReadAhead[FileRecord], memory: Memory, runs: Runs, report: Report) -> None:
        self.read = 0
        """How many records were taken."""
        self._records = records
        self._memory = memory
        self._runs = runs
        self._report = report

    async def run(self) -> None:
        """To the end of the file, and of every order in it. Raises `InvalidInputError` where the file breaks off."""
        try:
            while batch := await self._records.batch():
                self.read += len(batch)
                await self._take(batch)
        except asyncio.CancelledError:
            raise
        except Exception:
            await self._runs.settle(None)  # what has begun is told before what went wrong
            raise
        await self._runs.finish()

    async def count_rest(self) -> int:
        """How many more there are."""
        count = 0
        while batch := await self._records.batch():
            count += len(batch)
        return count

    async def _take(self, batch: Sequence[FileRecord]) -> None:
        orders = list(self._orders(batch))
        ended = await self._memory.results([order for _, order in orders])
        for record, order in orders:
            if result := ended.get(order):
                self._report.ended(record, Ended.with_result(order, result), before=True)
            else:
                await self._runs.begin(order, partial(self._report.ended, record))

    def _orders(self, batch: Sequence[FileRecord]) -> Iterator[tuple[FileRecord, AnyOrder]]:
        for record in batch:
            try:
                yield record, record.order()
            except InvalidRecordError as bad:
                self._report.bad(record, bad)
