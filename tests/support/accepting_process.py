"""A process that accepts one order after the other until it is killed."""

import asyncio
from multiprocessing.connection import Connection

from temporalio.client import Client

from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.orders import Lastmile
from lastmile.db import Database
from lastmile.encryption.codec import data_converter
from tests.support.fork_server import processes
from tests.support.orders import Orders

__all__ = ["AcceptingProcess"]

LIMIT = 6
"""How many orders the process accepts at most."""


class AcceptingProcess:
    """A process that accepts orders and confirms each one to the test, as an API confirms it to its caller."""

    def __init__(self, database_url: str, temporal_address: str, task_queue: str, ref: str, number: int) -> None:
        self._confirmed, confirm = processes.Pipe(duplex=False)
        given = (database_url, temporal_address, task_queue, ref, number, confirm)
        self._process = processes.Process(target=_run, args=given, daemon=True)
        self._process.start()
        confirm.close()

    def confirmation(self) -> str:
        """Wait for the next confirmed order, and return its id; empty where the process has ended."""
        try:
            return str(self._confirmed.recv())
        except (EOFError, OSError):
            return ""

    def kill(self) -> list[str]:
        """Kill the process. Return the ids of the orders that it had confirmed since."""
        self._process.kill()
        self._process.join()
        return list(iter(self.confirmation, ""))


def _run(database_url: str, temporal_address: str, task_queue: str, ref: str, number: int, confirm: Connection) -> None:
    asyncio.run(_accept(database_url, temporal_address, task_queue, Orders(f"{ref}-{number}"), number, confirm))


async def _accept(
    database_url: str, temporal_address: str, task_queue: str, orders: Orders, number: int, confirm: Connection
) -> None:
    client = await Client.connect(temporal_address, data_converter=data_converter(None))
    async with OrderAcceptance(Database(database_url), Lastmile(client, task_queue=task_queue)) as acceptance:
        for nth in range(1, LIMIT + 1):
            order = orders.provision(f"O-{number}-{nth}", nth=LIMIT * number + nth)
            await acceptance.accept(order)
            confirm.send(order.order_id)
        await asyncio.Event().wait()
