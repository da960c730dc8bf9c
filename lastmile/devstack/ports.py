"""The ports of a stack's servers: chosen once among the free ports, and then kept with the stack's state."""

import json
import random
import socket
from pathlib import Path

from lastmile.devstack.secret import write_private
from lastmile.errors import LastmileError

__all__ = ["HOST", "PortInUseError", "Ports", "is_free"]

HOST = "127.0.0.1"

# Below the range for outgoing connections on Linux and macOS, which could otherwise occupy a port of the stack.
_CHOICE = range(20_000, 30_000)


class PortInUseError(LastmileError):
    """Another process uses a port of the stack."""


def is_free(port: int) -> bool:
    """Return whether no process listens on `port` of the loopback address, over TCP or UDP."""
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
    """The ports of the stack in `directory`, by the name of the server."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "ports.json"

    def claim(self, name: str) -> int:
        """Return the port of the server `name`: the stored port, or a free one, which is then stored.

        Raises:
            PortInUseError: another process uses the stored port.
        """
        ports: dict[str, int] = json.loads(self._file.read_text()) if self._file.exists() else {}
        if name not in ports:
            taken = set(ports.values())
            ports[name] = next(p for p in random.sample(_CHOICE, len(_CHOICE)) if p not in taken and is_free(p))
            write_private(self._file, json.dumps(ports, indent=1) + "\n")
        port = ports[name]
        if not is_free(port):
            raise PortInUseError(
                f"Another process uses port {port} of this stack's {name}. "
                f"`ss -lntup 'sport = :{port}'` (macOS: `lsof -i :{port}`) shows the process. Stop that process, or "
                f"remove {self._file}, so that the stack chooses other ports."
            )
        return port
