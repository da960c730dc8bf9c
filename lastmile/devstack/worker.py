"""A worker of the stack: the same process that runs in production, as a child."""

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
    """One worker process with `environment` on top of this process's own. `async with` runs it.

    It serves `/healthz` on `port`, and has `grace_seconds` to finish running activities when it is stopped.
    """

    process: ServerProcess

    def __init__(self, directory: Path, environment: Mapping[str, str], *, port: int, grace_seconds: float) -> None:
        self._directory = directory.absolute()
        self._environment = environment
        self._health = f"http://{HOST}:{port}/healthz"
        self._patience = grace_seconds + 10

    async def __aenter__(self) -> Self:
        """Start it.

        Raises:
            ServerFailed: it did not start; the end of its log is shown.
        """
        self.process = await ServerProcess.start(
            "The worker",
            [sys.executable, "-m", "lastmile.worker"],
            log=self._directory / "logs" / "worker.log",
            env={**os.environ, **self._environment},
            patience=self._patience,
        )
        # Another Temporal server may take more than a minute to know new search attributes.
        await self.process.ready(self._healthy, within=120)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _healthy(self) -> bool:
        return await asyncio.to_thread(self._get)

    def _get(self) -> bool:
        # Whatever proxy the user has for the Internet is not on the way to this machine.
        with build_opener(ProxyHandler({})).open(self._health, timeout=2) as response:
            return bool(response.status == 200)
