"""A process of the REST API as a fork of a process that has imported everything."""

import asyncio
import os
from collections.abc import Mapping

from lastmile.api.serve import listen, serve
from lastmile.settings import Settings
from tests.support.fork_server import processes

__all__ = ["ForkedApi"]


class ForkedApi:
    """An API, configured by the environment as in production."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = processes.Process(target=_run, args=(dict(environment),), daemon=True)
        self._process.start()

    def kill(self) -> None:
        """End the process as `kill -9` does, and wait for its end."""
        self._process.kill()
        self._process.join()


def _run(environment: Mapping[str, str]) -> None:
    """In the fork: become the API."""
    os.environ.clear()
    os.environ.update(environment)
    settings = Settings.load()
    asyncio.run(serve(settings, listen(settings), settings.api_metrics_port))
