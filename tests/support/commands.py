"""Run `lastmile` commands, each with its own environment, standard streams and exit code."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lastmile.client.answer_time import ANSWER_TIME
from tests.support import command_server
from tests.support.readme import ROOT

__all__ = ["POOL", "Book", "Cli", "CommandServer", "Ran", "interrupted", "lines", "until"]


POOL = ("--purpose", "ipv6_pd", "--length", "56", "--tenant", "acme", "--force")
"""The options of a pool in documentation space, which is not for subscribers."""


@dataclass(frozen=True)
class Ran:
    """The exit code and the output of a command."""

    code: int | None
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        """Return the JSON objects of the output, one for each line."""
        return [json.loads(line) for line in self.out.splitlines()]


class CommandServer:
    """A client of `tests.support.command_server`."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["CommandServer"]:
        """Start the server; it ends with the block."""
        control, other = socket.socketpair()
        with other:
            server = subprocess.Popen(
                [sys.executable, "-m", command_server.__name__, str(other.fileno())],
                pass_fds=[other.fileno()],
                cwd=ROOT,
                env=os.environ | {"COLUMNS": "200"},  # the console of the command reads it when it is imported
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        try:
            with control:
                yield cls(control)
        finally:
            server.wait()

    async def run(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], stdin: str, answer_seconds: float
    ) -> Ran:
        """Run a command to its end."""
        channel, other = socket.socketpair()
        pipes = [os.pipe() for _ in range(command_server.STREAMS)]
        (its_input, our_input), (our_output, its_output), (our_error, its_error) = pipes
        with other:
            socket.send_fds(self._control, [b"\0"], [its_input, its_output, its_error, other.fileno()])
        for descriptor in (its_input, its_output, its_error):
            os.close(descriptor)
        reader, writer = await asyncio.open_connection(sock=channel)
        request = {"arguments": arguments, "environment": dict(environment), "answer_seconds": answer_seconds}
        writer.write(json.dumps(request).encode() + b"\n")
        pid = code = None
        try:
            pid = int(await reader.readline())
            out, err, _ = await asyncio.gather(_read(our_output), _read(our_error), _write(our_input, stdin.encode()))
            code = int(await reader.readline())
        finally:
            if pid is not None and code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            writer.close()
        return Ran(code, out.decode(), err.decode())


async def _read(descriptor: int) -> bytes:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        return await reader.read()
    finally:
        transport.close()


async def _write(descriptor: int, content: bytes) -> None:
    """Write all, or as much as the command reads before it ends."""
    with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb", 0) as pipe:
        if len(content) <= 4096:  # fits into any pipe
            pipe.write(content)
        else:
            await asyncio.to_thread(_write_all, pipe, content)


def _write_all(pipe: Any, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[pipe.write(view) :]


class Cli:
    """Run `lastmile` with an environment of its own."""

    def __init__(
        self,
        environment: Mapping[str, str],
        server: CommandServer,
        answer_seconds: float = ANSWER_TIME.total_seconds(),
    ) -> None:
        self.environment = dict(environment)
        self._server = server
        self._answer_seconds = answer_seconds

    def but(self, **changes: str | None) -> "Cli":
        """Return a command with other variables; None removes a variable."""
        environment = self.environment | changes
        kept = {name: value for name, value in environment.items() if value is not None}
        return Cli(kept, self._server, self._answer_seconds)

    def with_answer_time(self, seconds: float) -> "Cli":
        """Return a command that waits for a worker's answer for so long, in forks of the command server."""
        return Cli(self.environment, self._server, seconds)

    async def __call__(self, *arguments: str, stdin: str = "") -> Ran:
        """Run a command to its end, as a fork of the command server."""
        return await self._server.run(arguments, self.environment, stdin, self._answer_seconds)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a command with an interpreter of its own, as a user does."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lastmile.cli", *arguments),
            env=self.environment,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


async def interrupted(process: asyncio.subprocess.Process) -> Ran:
    """Send SIGINT, as Ctrl-C does, and wait for the end."""
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    return Ran(process.returncode, out.decode(), err.decode())


async def until(stream: asyncio.StreamReader | None, word: str) -> None:
    """Read up to the line that contains the word."""
    assert stream is not None
    while word not in (line := (await stream.readline()).decode()):
        assert line, f"the command ended without saying {word!r}"


class Book:
    """Orders for subscribers of one test, since all tests share one Temporal server."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex[:8]

    def ref(self, nth: int = 1) -> str:
        return f"S-{self.mark}-{nth}"

    def order(self, nth: int = 1, **changes: Any) -> dict[str, Any]:
        return {
            "tenant": "acme",
            "order_id": f"O-{nth}",
            "subscriber_ref": self.ref(nth),
            "customer": {"ref": "C-1", "name": "Ada Example"},
            "plan": {"name": "fiber", "download_kbps": 500_000, "upload_kbps": 250_000},
            "line": {"connection_type": "ftth", "onu_serial": f"ACME{nth:08X}", "cpe_mac": f"00:1a:2b:00:00:{nth:02x}"},
            **changes,
        }


def lines(*orders: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(order)}\n" for order in orders)
