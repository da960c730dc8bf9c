"""Reading in a thread, a little ahead of whoever uses it: a slow pipe must not stop what runs meanwhile."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Queue
from typing import Generic, TypeVar

__all__ = ["ReadAhead"]

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """At most `depth` items are read that nobody has asked for."""

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items = items
        self._queue: Queue[T] = Queue(depth)
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._failure: BaseException | None = None
        # A daemon: at Ctrl-C nobody waits for a pipe that says nothing.
        threading.Thread(target=self._read, daemon=True).start()

    async def batch(self) -> list[T]:
        """As many as were read by now; empty at the end. Raises what the reading raised, after what came before it.

        Cancelling this loses nothing.
        """
        while True:
            self._news.clear()
            ended = self._ended  # looked up first: what is read afterwards is found below
            if items := list(self._taken()):
                return items
            if ended:
                if self._failure is not None:
                    raise self._failure
                return []
            await self._news.wait()

    def _taken(self) -> Iterator[T]:
        for _ in range(self._queue.maxsize):
            try:
                yield self._queue.get_nowait()
            except Empty:
                return

    def _read(self) -> None:
        try:
            for item in self._items:
                self._queue.put(item)
                if not self._news.is_set():
                    self._tell()
        except BaseException as failure:
            self._failure = failure
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self._loop.call_soon_threadsafe(self._news.set)
