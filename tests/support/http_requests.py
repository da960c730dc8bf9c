"""The API on a socket, and requests as bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from lastmile.api.serve import listen
from lastmile.settings import Settings

__all__ = ["ask", "serving"]


@asynccontextmanager
async def serving(server: uvicorn.Server) -> AsyncIterator[int]:
    """Run the server, and return its port."""
    listener = listen(Settings(api_port=0))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send the bytes; return the status, the headers and the body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(request)
        async with asyncio.timeout(60):
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            body = await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()
    return int(status.split()[1]), headers, body
