"""A TCP proxy in front of PostgreSQL that loses the replies to commits, so that clients do not know the outcome."""

import asyncio
import random
from contextlib import suppress
from typing import Self

__all__ = ["CommitProxy"]

HOST = "127.0.0.1"
CHUNK = 65_536

# A simple query of PostgreSQL's protocol; the dialect sends it in a packet of its own.
COMMIT = b"COMMIT\x00"


class CommitProxy:
    """Forwards everything; of the replies to commits it swallows this share and closes the connection instead."""

    def __init__(self, port: int, share: float, seed: int) -> None:
        self._target = port
        self._share = share
        self._random = random.Random(seed)
        self.swallowed = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            down, up = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.close()
            return
        lose = asyncio.Event()
        both = [
            asyncio.ensure_future(self._questions(reader, up, lose)),
            asyncio.ensure_future(self._answers(down, writer, lose)),
        ]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for side in (writer, up):
            side.close()

    async def _questions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lose: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if COMMIT in data and self._random.random() < self._share:
                    lose.set()
                writer.write(data)
                await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lose: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if lose.is_set():  # PostgreSQL has answered, so it has committed
                    self.swallowed += 1
                    return
                writer.write(data)
                await writer.drain()
