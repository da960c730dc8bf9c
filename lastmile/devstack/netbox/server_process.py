"""The stand-in as a server of a stack: a process of its own, with its data in the stack's directory."""

import sys
from pathlib import Path
from typing import Self

from lastmile.devstack.ports import HOST
from lastmile.devstack.server import ServerProcess

__all__ = ["NetBoxStandIn"]


class NetBoxStandIn:
    """Listens on `port`, and keeps what it holds in `directory`. `async with` runs it.

    `token_file` holds the superuser's API token, which command lines would show to everybody.
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
        """Start it.

        Raises:
            ServerFailed: it did not start; the end of its log is shown.
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
