"""The API on a socket, and requests as bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from lastmile.api.serve import listen
from lastmile.settings import Settings

__all__ = ["ask", "serving"]


@asynccontextmanager
async def serving(server: uvicorn.Server, port: int = 0) -> AsyncIterator[int]:
    """Run the server at the port, a free one by default, and yield the port."""
    with listen(Settings(api_port=port)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]  # the socket accepts connections already
        finally:
            server.should_exit = True
            await task
            # The server does not wait for requests that it has cut off. Each returns its database connection first.
            await asyncio.gather(*server.server_state.tasks, return_exceptions=True)


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
