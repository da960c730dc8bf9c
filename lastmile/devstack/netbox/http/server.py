"""The HTTP/1.1 server of the stand-in on a loopback port, with faults of the network and of a proxy."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from lastmile.devstack.loopback_server import LoopbackServer
from lastmile.devstack.netbox.data.store import Store
from lastmile.devstack.netbox.http.access import install
from lastmile.devstack.netbox.http.api import answer
from lastmile.devstack.netbox.http.faults import Fault, Faults
from lastmile.devstack.netbox.http.latency import Costs
from lastmile.devstack.netbox.http.messages import Reply, Request
from lastmile.devstack.netbox.model.versions import V4_4, Version
from lastmile.devstack.netbox.process import Process, ProcessKilledError, Work
from lastmile.devstack.ports import HOST

__all__ = ["TOKEN", "V2_TOKEN", "NetBoxServer"]

TOKEN = "0123456789abcdef0123456789abcdef01234567"
V2_TOKEN = f"nbt_0123456789ab.{TOKEN}"


class NetBoxServer:
    """A NetBox with a superuser `admin`, run by `with`.

    Its data survives a restart and, with `file`, the end of this process.

    Args:
        port: the TCP port; 0 selects a free port.
        token: the superuser's API token.
        costs: the latency of requests, such as `latency.MEASURED`; None: no latency.
        seed: the seed of random faults.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        token: str = "",
        version: Version = V4_4,
        file: Path | None = None,
        costs: Costs | None = None,
        seed: int = 0,
    ) -> None:
        self.token = token or (V2_TOKEN if version.v2_tokens else TOKEN)
        self.store = Store(file, version)
        """The stored objects, for tests. The reader must hold `store.lock`."""
        self.faults = Faults(seed)
        self._port = port
        self.costs = costs
        """The latency from the next start on."""
        self._wire: _Wire | None = None
        install(self.store, self.token)

    @property
    def url(self) -> str:
        """Return the URL for clients."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.store.close()

    def start(self, *, ready: threading.Event | None = None) -> None:
        """Open the port. Requests wait until `ready` is set, as for a NetBox that is starting.

        Raises:
            OSError: another process uses the port.
        """
        self._wire = _Wire(self._port, Process(self.store, self.costs), self.faults, ready)
        self._port = self._wire.server_address[1]
        threading.Thread(target=self._wire.serve_forever, args=(0.01,), name="netbox", daemon=True).start()

    def stop(self) -> None:
        """Stop the server, and close its connections. Uncommitted requests are lost. A second call does nothing."""
        if self._wire is not None:
            self._wire.end()
            self._wire = None

    def restart(self, *, ready: threading.Event | None = None) -> None:
        """Stop the server, and start it on the same port."""
        self.stop()
        self.start(ready=ready)


class _Wire(LoopbackServer):
    """The listening socket and the connections of one process of NetBox."""

    def __init__(self, port: int, process: Process, faults: Faults, ready: threading.Event | None) -> None:
        super().__init__(port, _Handler)
        self.process = process
        self.faults = faults
        self.ready = ready

    def hang_up_all(self) -> None:
        self.process.kill()  # before a client can see the end of its connection
        super().hang_up_all()

    def answer(self, request: Request, fault: Fault) -> Reply | None:
        """Return NetBox's reply; None if NetBox ended meanwhile."""
        if self.ready is not None:
            self.ready.wait()
        with self.process.threads:
            try:
                return answer(request, self.process.store, Work(self.process, fault))
            except ProcessKilledError:
                return None


class _Handler(BaseHTTPRequestHandler):
    """A connection, which handles its requests one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one segment
    server: _Wire

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = urlsplit(self.path)
        fault = self.server.faults.pick(self.command, target.path)
        time.sleep(fault.latency)
        if fault.delay is not None:
            fault.delay()
        if fault.proxy:
            self._send(Reply(fault.proxy, f"<html><body>{fault.proxy}</body></html>"), fault)
            return
        request = Request(
            self.command,
            unquote(target.path),
            parse_qs(target.query, keep_blank_values=True),
            body,
            self.headers.get("Content-Type", ""),
            self.headers.get("Authorization", ""),
            self.headers.get("If-Match", ""),
            f"http://{self.headers.get('Host', '')}",
        )
        reply = None if fault.dropped else self.server.answer(request, fault)
        if reply is None or fault.lost:
            self._hang_up()
        else:
            self._send(reply, fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve

    def _send(self, reply: Reply, fault: Fault) -> None:
        html = isinstance(reply.body, str)
        content = b"" if reply.body is None else reply.body.encode() if html else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(content)))
        if reply.body is not None:
            self.send_header("Content-Type", "text/html; charset=utf-8" if html else "application/json")
        if reply.location:
            self.send_header("Location", reply.location)
        if fault.retry_after is not None:
            self.send_header("Retry-After", str(fault.retry_after))
        if not fault.proxy:
            self.send_header("API-Version", self.server.process.store.version.api)
        if reply.etag:
            self.send_header("ETag", reply.etag)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault.cut else content)
        self.wfile.flush()
        if fault.cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.server.hang_up(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: tests read the store and `Faults.met`."""
