"""The HTTP/1.1 server of the stand-in on a loopback port, with faults and with the login of a proxy."""

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Self
from urllib.parse import parse_qs, urlsplit

from lastmile.devstack.genieacs.acs import Acs
from lastmile.devstack.genieacs.api import NbiReply, NbiRequest, WorkerDiesError, answer
from lastmile.devstack.genieacs.faults import NbiFault, NbiFaults
from lastmile.devstack.loopback_server import LoopbackServer
from lastmile.devstack.ports import HOST

__all__ = ["VERSION", "GenieAcsServer"]

VERSION = "1.2.16+26112938e9"


class GenieAcsServer:
    """A GenieACS with its NBI, run by `with`. Its data survives its end and a new start.

    Args:
        port: the TCP port; 0 selects a free port.
        lock_seconds: how long a task waits for the end of a session; 30 in GenieACS.
        authorization: the header `Authorization` that a proxy before the NBI demands; empty: there is no proxy.
    """

    def __init__(self, *, port: int = 0, lock_seconds: float = 30, authorization: str = "") -> None:
        self.acs = Acs(lock_seconds=lock_seconds)
        self.faults = NbiFaults()
        self.requests: list[str] = []
        """Each request as `POST /devices/…`, with its path as it was sent."""
        self._arrived = threading.Condition()
        self._authorization = authorization
        self._port = port
        self._wire: _Wire | None = None

    @property
    def url(self) -> str:
        """Return the URL for clients."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def receive(self, request: str) -> None:
        """Record a request."""
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()

    def wait_for(self, request: str, times: int = 1) -> None:
        """Block until so many requests have begun with this text. Raises `TimeoutError` after 30 seconds."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: sum(one.startswith(request) for one in self.requests) >= times, 30):
                raise TimeoutError(f"no {request} has come")

    def start(self) -> None:
        """Open the port."""
        self._wire = _Wire(self._port, self, self._authorization)
        self._port = self._wire.server_address[1]
        threading.Thread(target=self._wire.serve_forever, args=(0.01,), name="genieacs", daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection. A second call does nothing."""
        if self._wire is not None:
            self._wire.stopped.set()
            self._wire.end()
            self._wire = None

    def replace_worker(self) -> None:
        """End the worker and its connections. Another worker accepts connections before a client notices."""
        assert self._wire is not None
        dying = self._wire
        dying.close_port()
        self.start()
        dying.hang_up_all()


class _Wire(LoopbackServer):
    """The listening socket and the connections of one process of the NBI."""

    def __init__(self, port: int, owner: GenieAcsServer, authorization: str) -> None:
        super().__init__(port, _Handler)
        self.owner = owner
        self.authorization = authorization
        self.stopped = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    """A connection, which handles its requests one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one segment
    server: _Wire

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        owner = self.server.owner
        owner.receive(f"{self.command} {self.path}")
        target = urlsplit(self.path)
        if self.server.authorization and self.headers.get("Authorization") != self.server.authorization:
            self._send_page(401)
            return
        fault = owner.faults.pick(self.command, target.path)
        if fault in (NbiFault.BAD_GATEWAY, NbiFault.OTHER_SERVER):
            self._send_page(502 if fault is NbiFault.BAD_GATEWAY else 200)
            return
        if fault is NbiFault.HANGS:
            self.server.stopped.wait()
            return
        request = NbiRequest(self.command, target.path, parse_qs(target.query, keep_blank_values=True), body)
        try:
            if fault is NbiFault.WORKER_DIES:
                raise WorkerDiesError
            reply = answer(owner.acs, request)
        except WorkerDiesError:
            owner.replace_worker()
            return
        if fault is NbiFault.REPLY_LOST:
            self.server.hang_up(self.connection)
            self.close_connection = True
        else:
            self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _send(self, reply: NbiReply) -> None:
        is_text = isinstance(reply.body, str)
        content = reply.body.encode() if is_text else json.dumps(reply.body).encode()
        self.send_response(reply.status, reply.reason or HTTPStatus(reply.status).phrase)
        self.send_header("GenieACS-Version", VERSION)
        self.send_header("Content-Length", str(len(content)))
        if not is_text:
            self.send_header("Content-Type", "application/json")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def _send_page(self, status: int) -> None:
        content = f"<html><body>{status}</body></html>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: tests read the state of the ACS."""
