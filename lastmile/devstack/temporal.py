"""A Temporal dev server for one state directory.

With its default settings the dev server is slow: its only history shard reads its transfer queue 20 times a second. The
settings in this module make a run six times faster.
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from temporalio.client import Client
from temporalio.service import RPCError

from lastmile.devstack.ports import HOST, Ports
from lastmile.devstack.server import ServerProcess

__all__ = ["DevTemporal"]

_SEARCH_ATTRIBUTES = {
    "LastmileTenant": "Keyword",
    "LastmileOperation": "Keyword",
    "LastmileStep": "Keyword",
    "LastmileAttention": "Bool",
}
_DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "2000",
    "history.transferProcessorMaxPollHostRPS": "5000",
    # With the default, a retry after 200 ms runs after a second.
    "history.timerProcessorMaxTimeShift": '"10ms"',
    # Tenants take turns within one priority. Each partition of a queue has its own turns, so there is only one.
    "matching.enableFairness": "true",
    # Fairness does not cover the sticky queue of a worker, where later workflow tasks of a run wait. Without this
    # setting the sticky queue ignores priorities: an urgent order waits behind all orders that have begun.
    "matching.useNewMatcher": "true",
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
}
_SQLITE_PRAGMAS = {"journal_mode": "WAL", "synchronous": "NORMAL"}


class DevTemporal:
    """A Temporal dev server, run by `async with` from `program` (the `temporal` command).

    Its ports are stored in `directory`. Runs survive a restart in the file `database`. Without a file, the server keeps
    runs in memory.
    """

    process: ServerProcess

    def __init__(self, directory: Path, *, program: Path, database: Path | None) -> None:
        self._directory = directory.absolute()
        self._program = program
        self._database = database
        self._port = 0
        self._ui_port = 0

    @property
    def address(self) -> str:
        """Return the address for clients: `host:port`."""
        return f"{HOST}:{self._port}"

    @property
    def ui_url(self) -> str:
        """Return the URL of the Web UI."""
        return f"http://{HOST}:{self._ui_port}"

    async def __aenter__(self) -> Self:
        """Start the server.

        Raises:
            PortInUseError: another process uses one of its ports.
            ServerFailedError: the server did not start. The message has the end of its log.
        """
        ports = Ports(self._directory)
        self._port, self._ui_port = ports.claim("Temporal"), ports.claim("Temporal UI")
        self.process = await ServerProcess.start(
            "Temporal",
            [self._program, "server", "start-dev", *self._arguments()],
            log=self._directory / "logs" / "temporal.log",
            stop_signal=signal.SIGINT,
        )
        await self.process.ready(self._answers, within=60)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    def _arguments(self) -> list[str]:
        arguments = [
            "--ip",
            HOST,
            "--port",
            str(self._port),
            "--ui-port",
            str(self._ui_port),
            "--log-level",
            "warn",
        ]
        arguments += _repeated("--search-attribute", _SEARCH_ATTRIBUTES)
        arguments += _repeated("--dynamic-config-value", _DYNAMIC_CONFIG)
        if self._database:
            arguments += [
                "--db-filename",
                str(self._database),
                *_repeated("--sqlite-pragma", _SQLITE_PRAGMAS),
            ]
        return arguments

    async def _answers(self) -> bool:
        try:
            client = await Client.connect(self.address)
            return await client.service_client.check_health()
        except (RuntimeError, RPCError):  # the server does not listen yet, or is not ready yet
            return False


def _repeated(option: str, values: Mapping[str, str]) -> list[str]:
    return [argument for name, value in values.items() for argument in (option, f"{name}={value}")]
