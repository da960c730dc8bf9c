"""The stand-in as a server of a stack: a separate process with its data in the stack's directory."""

import sys
from pathlib import Path
from typing import Self

from lastmile.devstack.ports import HOST
from lastmile.devstack.server import ServerProcess

__all__ = ["NetBoxStandIn"]


class NetBoxStandIn:
    """A process of the stand-in on `port` with its data in `directory`, run by `async with`.

    `token_file` contains the superuser's API token. Every user of the machine could read a token on the command line.
    """

    process: ServerProcess

    def __init__(self, directory: Path, *, port: int, token_file: Path, as_slow_as_measured: bool = False) -> None:
        self._directory = directory.absolute()
        self._options = ["--port", str(port), "--token-file", str(token_file), "--file", str(self.file)]
        self._options += ["--as-slow-as-measured"] if as_slow_as_measured else []
        self.url = f"http://{HOST}:{port}"

    @property
    def file(self) -> Path:
        return self._directory / "netbox.db"

    async def __aenter__(self) -> Self:
        """Start the process.

        Raises:
            ServerFailedError: the process did not start. The message has the end of its log.
        """
        self.file.touch(mode=0o600)  # tokens are in it
        self.process = await ServerProcess.start(
            "The NetBox stand-in",
            [sys.executable, "-m", "lastmile.devstack.netbox", *self._options],
            log=self._directory / "logs" / "netbox.log",
        )
        await self.process.ready(self._says_ready, within=30)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    async def _says_ready(self) -> bool:
        return self.url in self.process.output()
