"""A server process of the embedded stack, started under a guard and stopped in order."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from lastmile.devstack import guard
from lastmile.errors import LastmileError

__all__ = ["ServerFailedError", "ServerProcess"]

_POLL_SECONDS = 0.05


class ServerFailedError(LastmileError):
    """A server did not start, or ended unexpectedly. The message has its name and the end of its log."""


class ServerProcess:
    """A running server, which ends after `stop()`, or when this process ends in any way.

    The server appends its output to `log`. Ctrl-C does not reach it, since it has its own process group.
    """

    def __init__(self, name: str, log: Path, log_start: int, line: asyncio.StreamWriter, end: asyncio.Task[int]):
        self.name = name
        self.log = log
        self._log_start = log_start
        self._line = line
        self._end = end

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        user: str = "",
        stop_signal: signal.Signals = signal.SIGTERM,
        patience: float = 10,
    ) -> "ServerProcess":
        """Start `command`.

        Args:
            user: the login of the server; empty for the current one. Another login needs root.
            patience: seconds between `stop_signal` and SIGKILL.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        # The guard and the stack each detect the end of the other by the end of this connection.
        ours, guards = socket.socketpair()
        arguments = [str(int(stop_signal)), str(patience), user, *map(str, command)]
        with guards:
            guarded, log_start = _spawn(arguments, guards, log, env)
        reader, line = await asyncio.open_connection(sock=ours)
        end = asyncio.create_task(_end(guarded, reader, line), name=f"end of {name}")
        return cls(name, log, log_start, line, end)

    async def ready(self, probe: Callable[[], Awaitable[bool]], *, within: float) -> None:
        """Wait until `probe` returns True; an `OSError` counts as False.

        Raises:
            ServerFailedError: the server ended, or was not ready `within` seconds. Then it is stopped.
        """
        try:
            async with asyncio.timeout(within):
                while not await _is_ready(probe):
                    if self._end.done():
                        raise self.failure()
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            await self.stop()
            raise ServerFailedError(f"{self.name} was not ready within {within:g} s.{self._log_tail()}") from None
        except BaseException:
            await self.stop()
            raise

    def output(self) -> str:
        """Return the output of the server since its start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    async def ended(self) -> None:
        """Wait until the server has ended for any reason."""
        await asyncio.shield(self._end)

    def failure(self) -> ServerFailedError:
        """Return the error for the unexpected end of this server."""
        return ServerFailedError(f"{self.name} ended with status {self._end.result()}.{self._log_tail()}")

    async def stop(self) -> None:
        """Stop the server, and wait until it has ended. A call after its end does nothing."""
        if not self._end.done():
            self._line.write_eof()
        await asyncio.shield(self._end)

    def _log_tail(self, lines: int = 15) -> str:
        tail = deque(self.output().splitlines(), maxlen=lines)
        where = os.path.relpath(self.log) if self.log.is_relative_to(Path.cwd()) else self.log
        if not tail:
            return f" Its log {where} is empty."
        return f" The end of {where}:" + "".join(f"\n    {line}" for line in tail)


def _spawn(
    guard_arguments: list[str], line: socket.socket, log: Path, env: Mapping[str, str] | None
) -> "tuple[subprocess.Popen[bytes], int]":
    """Start the guard. Return its process, and the position in the log at which its output begins."""
    with log.open("ab") as output:
        guarded = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, *guard_arguments],
            stdin=line.fileno(),
            stdout=output.fileno(),
            stderr=output.fileno(),
            env=env,
            start_new_session=True,
            # The guard inherits the lock of the stack, the only inheritable file, and holds it until its server has
            # ended. So the next stack waits for the servers of a killed stack.
            close_fds=False,
        )
        return guarded, output.tell()


async def _end(guarded: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, line: asyncio.StreamWriter) -> int:
    await reader.read()
    line.close()
    return guarded.wait()


async def _is_ready(probe: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await probe()
    except OSError:
        return False
