"""A worker as a fork of a process that has imported everything.

In all else it is a worker like any other: own environment, own error stream, own exit status.
"""

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

from lastmile import worker
from tests.support.fork_server import processes

__all__ = ["LOG_LIMIT", "ForkedWorker"]

LOG_LIMIT = 1 << 26
"""Bytes of a worker's log that are kept until the test reads it. A worker with a longer log stops at its next line."""


class ForkedWorker:
    """A worker, with the methods of `asyncio.subprocess.Process`."""

    @classmethod
    async def start(
        cls, environment: Mapping[str, str], arguments: Sequence[str], constants: Mapping[str, Any]
    ) -> Self:
        """Start a worker. `constants`: other values of the code's constants, by the full names."""
        self = cls()
        errors, its_errors = processes.Pipe(duplex=False)
        given = dict(environment), arguments, dict(constants), its_errors
        self._process = processes.Process(target=_run, args=given, daemon=True)
        await asyncio.to_thread(self._process.start)  # the first one starts the fork server
        its_errors.close()
        self.stderr = asyncio.StreamReader(LOG_LIMIT)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.stderr), os.fdopen(os.dup(errors.fileno()), "rb", 0)
        )
        errors.close()
        return self

    @property
    def returncode(self) -> int | None:
        """Return the exit status, negative for a signal; None while the worker runs."""
        return self._process.exitcode

    async def wait(self) -> int | None:
        await asyncio.to_thread(self._process.join)
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Read the error stream to its end, and wait for the end of the worker."""
        errors = await self.stderr.read()
        await self.wait()
        return b"", errors

    def send_signal(self, number: int) -> None:
        """Raises `ProcessLookupError` where the worker has ended."""
        if self.returncode is not None or self._process.pid is None:
            raise ProcessLookupError
        os.kill(self._process.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(
    environment: Mapping[str, str], arguments: Sequence[str], constants: Mapping[str, Any], errors: Connection
) -> None:
    """In the fork: become the worker."""
    os.dup2(errors.fileno(), sys.stderr.fileno())
    errors.close()
    os.environ.clear()
    os.environ.update(environment)
    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    sys.argv = ["lastmile.worker", *arguments]
    worker.main()
