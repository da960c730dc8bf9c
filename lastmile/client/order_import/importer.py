"""The import of a file of orders: reads it in batches, and runs the orders that have not ended yet."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

from lastmile.client.order_import.runs import EndedOrder, OrderRuns
from lastmile.contract import AnyOrder
from lastmile.services.ended_orders import EndedOrders
from lastmile.services.order_files.read_ahead import ReadAhead
from lastmile.services.order_files.record import FileRecord, InvalidRecordError

__all__ = ["BATCH_SIZE", "ImportObserver", "OrderImport"]

BATCH_SIZE = 256
"""The number of records that are read, and looked up in the database, at a time."""


class ImportObserver(Protocol):
    """Gets the outcome of each record."""

    def order_ended(self, record: FileRecord, ended: EndedOrder, *, before: bool = False) -> None:
        """The order has ended; `before`: already before this import."""

    def record_invalid(self, record: FileRecord, failure: InvalidRecordError) -> None:
        """The record is not a valid order."""


class OrderImport:
    """Runs the orders of a file. A file of any size takes the memory of one batch."""

    def __init__(
        self, records: ReadAhead[FileRecord], ended_orders: EndedOrders, runs: OrderRuns, observer: ImportObserver
    ) -> None:
        self.records_read = 0
        self._records = records
        self._ended_orders = ended_orders
        self._runs = runs
        self._observer = observer

    async def run(self) -> None:
        """Import the file, and wait until all its orders have ended. Raises `InvalidInputError` if it breaks off."""
        try:
            while batch := await self._records.batch():
                self.records_read += len(batch)
                await self._run_batch(batch)
        except asyncio.CancelledError:
            raise
        except Exception:
            await self._runs.settle(None)  # report the orders that have begun before the failure
            raise
        await self._runs.finish()

    async def count_remaining(self) -> int:
        """Read the rest of the file, and return the number of its records."""
        count = 0
        while batch := await self._records.batch():
            count += len(batch)
        return count

    async def _run_batch(self, batch: Sequence[FileRecord]) -> None:
        orders = list(self._valid_orders(batch))
        results = await self._ended_orders.results([order for _, order in orders])
        for record, order in orders:
            if result := results.get(order):
                self._observer.order_ended(record, EndedOrder.with_result(order, result), before=True)
            else:
                await self._runs.begin(order, partial(self._observer.order_ended, record))

    def _valid_orders(self, batch: Sequence[FileRecord]) -> Iterator[tuple[FileRecord, AnyOrder]]:
        for record in batch:
            try:
                yield record, record.order()
            except InvalidRecordError as failure:
                self._observer.record_invalid(record, failure)
