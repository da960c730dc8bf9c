"""Counts round trips to PostgreSQL on the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import make_url

__all__ = ["RoundTrips", "counted"]

READY = b"Z"
"""The type of PostgreSQL's last message of an answer, ReadyForQuery: there is one in each round trip."""


@dataclass
class RoundTrips:
    """The round trips of all connections through a proxy, and its URL."""

    url: str
    count: int = 0


@asynccontextmanager
async def counted(url: str) -> AsyncIterator[RoundTrips]:
    """Provide a proxy in front of the database of this URL."""
    target = make_url(url)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(target.host, target.port)

        async def ask() -> None:
            while asked := await reader.read(65_536):
                ours.write(asked)

        async def answer() -> None:
            while kind := await theirs.read(1):
                length = await theirs.readexactly(4)
                writer.write(kind + length + await theirs.readexactly(int.from_bytes(length) - 4))
                trips.count += kind == READY

        asking = asyncio.create_task(ask())
        try:
            await answer()
        finally:
            asking.cancel()
            for end in (ours, writer):
                end.close()
                await end.wait_closed()

    async with await asyncio.start_server(relay, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        # Without TLS, which would hide the messages.
        proxy = target.set(host="127.0.0.1", port=port, query={**target.query, "ssl": "disable"})
        trips = RoundTrips(proxy.render_as_string(hide_password=False))
        yield trips
