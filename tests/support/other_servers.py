"""Servers that are not NetBox, and a TLS proxy in front of NetBox."""

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lastmile.devstack.ports import HOST

__all__ = ["answering", "answering_in_turn", "certificate", "tls"]


@asynccontextmanager
async def answering(head: str, body: str = "") -> AsyncIterator[str]:
    """Run a server that answers every request with this status line, headers and body; yield its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [f"HTTP/1.1 {head}", f"Content-Length: {len(body)}", "Connection: close", "", body]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def answering_in_turn(*answers: tuple[str, str]) -> AsyncIterator[tuple[str, list[str]]]:
    """Run a server with these answers, each a head and a body, one for each request; yield its URL and the requests."""
    requests: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = re.search(r"content-length: (\d+)", request, re.I)
        requests.append(request + (await reader.readexactly(int(size[1]) if size else 0)).decode())
        head, body = answers[len(requests) - 1]
        lines = [f"HTTP/1.1 {head}", f"Content-Length: {len(body)}", "Connection: close", "", body]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}", requests


def certificate(directory: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate for the loopback address; return it and its key."""
    made, key = directory / "ca.pem", directory / "key.pem"
    names = ("-subj", "/CN=NetBox", "-addext", f"subjectAltName=IP:{HOST}")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    command = ["openssl", "req", "-x509", *curve, "-keyout", str(key), "-out", str(made), "-days", "2", *names]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@asynccontextmanager
async def tls(url: str, certificate: tuple[Path, Path]) -> AsyncIterator[str]:
    """Run a TLS proxy in front of the server at `url`; yield its https URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])  # a client of gRPC insists
    port = int(url.rpartition(":")[2])

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, port)
        async with asyncio.TaskGroup() as directions:
            directions.create_task(_pump(reader, inner_writer))
            directions.create_task(_pump(inner_reader, writer))

    server = await asyncio.start_server(forward, HOST, 0, ssl=context)
    async with server:
        yield f"https://{HOST}:{server.sockets[0].getsockname()[1]}"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the other end has closed the connection
    finally:
        writer.close()
