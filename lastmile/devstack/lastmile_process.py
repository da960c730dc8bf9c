"""Processes of Lastmile in the stack, as in production: a worker, and the REST API."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.request import ProxyHandler, build_opener

from lastmile.devstack.ports import HOST
from lastmile.devstack.server import ServerProcess

__all__ = ["Api", "Worker"]


class _LastmileProcess:
    """A child process with `environment` added to that of this process, run by `async with`. It serves `/healthz`."""

    process: ServerProcess
    name: str
    log: str
    within: float
    """Seconds that the start may take."""

    def __init__(
        self, arguments: Sequence[str], directory: Path, environment: Mapping[str, str], port: int, patience: float
    ) -> None:
        self._command = [sys.executable, "-m", *arguments]
        self._log = directory.absolute() / "logs" / self.log
        self._environment = environment
        self._health = f"http://{HOST}:{port}/healthz"
        self._patience = patience

    async def __aenter__(self) -> Self:
        """Start the process.

        Raises:
            ServerFailedError: the process did not start. The message has the end of its log.
        """
        self.process = await ServerProcess.start(
            self.name, self._command, log=self._log, env={**os.environ, **self._environment}, patience=self._patience
        )
        await self.process.ready(self._healthy, within=self.within)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _healthy(self) -> bool:
        return await asyncio.to_thread(self._get)

    def _get(self) -> bool:
        # The user's proxy for the Internet does not apply to the loopback address.
        with build_opener(ProxyHandler({})).open(self._health, timeout=2) as response:
            return bool(response.status == 200)


class Worker(_LastmileProcess):
    """A worker.

    The worker serves `/healthz` on `port`; with several `processes`, the others serve it on the ports after it. At its
    stop, running activities have `grace_seconds` to finish.
    """

    name, log = "The worker", "worker.log"
    within = 120  # a Temporal cluster may need more than a minute to accept new search attributes

    def __init__(
        self, directory: Path, environment: Mapping[str, str], *, port: int, grace_seconds: float, processes: int = 1
    ) -> None:
        command = ["lastmile.worker", "--processes", str(processes)]
        super().__init__(command, directory, environment, port, grace_seconds + 10)


class Api(_LastmileProcess):
    """The REST API on `port`. At its stop, requests have `grace_seconds` to finish."""

    name, log = "The API", "api.log"
    within = 60

    def __init__(self, directory: Path, environment: Mapping[str, str], *, port: int, grace_seconds: float) -> None:
        super().__init__(["lastmile.cli", "api"], directory, environment, port, grace_seconds + 10)
