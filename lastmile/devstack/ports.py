"""Which port each server of a stack listens on: chosen free once, then remembered with the stack's state."""

import json
import random
import socket
from pathlib import Path

from lastmile.devstack.secret import write_private
from lastmile.errors import LastmileError

__all__ = ["HOST", "PortInUseError", "Ports", "is_free"]

HOST = "127.0.0.1"

# Below what Linux and macOS hand out to outgoing connections, which could otherwise sit on a remembered port.
_CHOICE = range(20_000, 30_000)


class PortInUseError(LastmileError):
    """A remembered port is taken by a process that is not ours."""


def is_free(port: int) -> bool:
    """Whether nobody on this machine listens on `port` of the loopback address, over TCP or UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # Connections that a stopped server left in TIME_WAIT do not count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


class Ports:
    """The ports of the stack whose state is in `directory`, by name of what listens there."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "ports.json"

    def claim(self, name: str) -> int:
        """The port for `name`: the one it had before, or else a free one, which is remembered.

        Raises:
            PortInUse: the remembered port is taken.
        """
        ports: dict[str, int] = json.loads(self._file.read_text()) if self._file.exists() else {}
        if name not in ports:
            taken = set(ports.values())
            ports[name] = next(p for p in random.sample(_CHOICE, len(_CHOICE)) if p not in taken and is_free(p))
            write_private(self._file, json.dumps(ports, indent=1) + "\n")
        port = ports[name]
        if not is_free(port):
            raise PortInUseError(
                f"Port {port}, where {name} of this stack listens, is in use by another process. "
                f"`ss -lntup 'sport = :{port}'` (macOS: `lsof -i :{port}`) says which. Stop that process, or "
                f"remove {self._file} to have other ports chosen."
            )
        return port
