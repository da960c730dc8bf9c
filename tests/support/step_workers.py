"""Worker processes that run the steps of orders and block maintenance, and are killed at any moment."""

import asyncio
import itertools
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from temporalio.exceptions import ApplicationError

from ipam.netbox import NetBox
from ipam.netbox.delegated.block_maintenance import BlockMaintenance
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from tests.support.fork_server import processes
from tests.support.steps import QUARANTINE, Steps

__all__ = ["StepWorkers", "WorkerKilledError"]


class WorkerKilledError(Exception):
    """The worker was killed before it reported the outcome of the step."""


class StepWorkers:
    """A fixed number of workers on one database and one NetBox; a killed worker is replaced."""

    def __init__(self, size: int, *place: Any) -> None:
        """`place`: the database's URL, NetBox's URL and token, and the seconds that a reply may take."""
        self._place = place
        self._workers = [_Worker(place) for _ in range(size)]
        self._turn = itertools.count()

    @classmethod
    @contextmanager
    def running(cls, size: int, *place: Any) -> "Iterator[StepWorkers]":
        workers = cls(size, *place)
        try:
            yield workers
        finally:
            for worker in workers._workers:
                worker.kill()

    async def do(self, step: str, *arguments: Any, **more: Any) -> Any:
        """Run one attempt of the step on the next worker. Raises `WorkerKilledError`, and the failure of the step."""
        return await self._workers[next(self._turn) % len(self._workers)].do(step, arguments, more)

    def kill(self) -> int:
        """Kill the oldest worker with SIGKILL; return the number of its open steps."""
        lost = self._workers.pop(0).kill()
        self._workers.append(_Worker(self._place))
        return lost


class _Worker:
    def __init__(self, place: tuple[Any, ...]) -> None:
        self._wire, theirs = multiprocessing.Pipe()
        self._process = processes.Process(target=_main, args=(theirs, place), daemon=True)
        self._process.start()
        theirs.close()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._wire.fileno(), self._read)

    async def do(self, step: str, arguments: tuple[Any, ...], more: dict[str, Any]) -> Any:
        number = next(self._numbers)
        future = self._waiting[number] = self._loop.create_future()
        self._wire.send((number, step, arguments, more))
        return await future

    def _read(self) -> None:
        number, result, failure = self._wire.recv()
        future = self._waiting.pop(number)
        if future.cancelled():
            return
        if failure is None:
            future.set_result(result)
        else:
            words, kind, final = failure
            future.set_exception(ApplicationError(words, type=kind, non_retryable=final))

    def kill(self) -> int:
        self._loop.remove_reader(self._wire.fileno())
        self._process.kill()
        self._process.join()
        self._process.close()
        self._wire.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerKilledError())
        return len(self._waiting)


def _main(wire: Connection, place: tuple[Any, ...]) -> None:
    asyncio.run(_work(wire, *place))


async def _work(wire: Connection, database_url: str, url: str, token: str, read_timeout: float) -> None:
    database = Database(database_url, pool_size=12)
    async with (
        DynamicAuthorization(timeout=0.1, tries=1, in_flight=1) as authorization,
        NetBox(url, token, read_timeout=read_timeout, in_flight=8) as netbox,
        BlockMaintenance(database, netbox, QUARANTINE.unconfirmed),
    ):
        steps = Steps(database, authorization, netbox)

        async def one(number: int, step: str, arguments: tuple[Any, ...], more: dict[str, Any]) -> None:
            try:
                wire.send((number, await getattr(steps, step)(*arguments, **more), None))
            except ApplicationError as failure:
                wire.send((number, None, (failure.message, failure.type, failure.non_retryable)))

        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(one(*await asyncio.to_thread(wire.recv)))
