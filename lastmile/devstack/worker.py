"""A worker of the stack: the process of production as a child process."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.request import ProxyHandler, build_opener

from lastmile.devstack.ports import HOST
from lastmile.devstack.server import ServerProcess

__all__ = ["Worker"]


class Worker:
    """A worker process, run by `async with`, with `environment` added to the environment of this process.

    The worker serves `/healthz` on `port`; with several `processes`, the others serve it on the ports after it. At its
    stop, running activities have `grace_seconds` to finish.
    """

    process: ServerProcess

    def __init__(
        self, directory: Path, environment: Mapping[str, str], *, port: int, grace_seconds: float, processes: int = 1
    ) -> None:
        self._directory = directory.absolute()
        self._environment = environment
        self._health = f"http://{HOST}:{port}/healthz"
        self._patience = grace_seconds + 10
        self._processes = processes

    async def __aenter__(self) -> Self:
        """Start the worker.

        Raises:
            ServerFailedError: the worker did not start. The message has the end of its log.
        """
        self.process = await ServerProcess.start(
            "The worker",
            [sys.executable, "-m", "lastmile.worker", "--processes", str(self._processes)],
            log=self._directory / "logs" / "worker.log",
            env={**os.environ, **self._environment},
            patience=self._patience,
        )
        # A Temporal cluster may need more than a minute to accept new search attributes.
        await self.process.ready(self._healthy, within=120)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _healthy(self) -> bool:
        return await asyncio.to_thread(self._get)

    def _get(self) -> bool:
        # The user's proxy for the Internet does not apply to the loopback address.
        with build_opener(ProxyHandler({})).open(self._health, timeout=2) as response:
            return bool(response.status == 200)
