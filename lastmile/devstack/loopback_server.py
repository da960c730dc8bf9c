"""An HTTP server of a stand-in on the loopback address, which can end in the middle of its requests."""

import socket
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lastmile.devstack.ports import HOST

__all__ = ["LoopbackServer"]


class LoopbackServer(ThreadingHTTPServer):
    """A listening socket with its connections, each in a thread."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__((HOST, port), handler)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        """Close the port and every connection."""
        self.close_port()
        self.hang_up_all()

    def close_port(self) -> None:
        """Accept no more connections, and keep the open ones."""
        self.shutdown()
        self.server_close()

    def hang_up_all(self) -> None:
        """Close every connection at once."""
        with self._lock:
            for connection in self._connections:
                self.hang_up(connection)

    @staticmethod
    def hang_up(connection: socket.socket) -> None:
        """Close a connection at once, also where its client has closed it."""
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that closed the connection; report every other error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
