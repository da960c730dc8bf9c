"""The HTTP/1.1 server of the stand-in on a loopback port."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import parse_qsl

from lastmile.devstack.loopback_server import LoopbackServer
from lastmile.devstack.ports import HOST
from lastmile.devstack.smartolt.account import Account, RefusedError
from lastmile.devstack.smartolt.faults import SmartOltFault

__all__ = ["SmartOltServer"]

_STATUSES = {SmartOltFault.UNAVAILABLE: 503, SmartOltFault.TOO_MANY_CALLS: 429}


class SmartOltServer:
    """An account at SmartOLT, run by `with`. It survives its end and a new start."""

    def __init__(self, *, token: str = "correct") -> None:
        self.account = Account()
        self.requests: list[str] = []
        """Each request as `POST onu/authorize_onu`, without `/api/`."""
        self.seconds = 0.0
        """How long SmartOLT takes to answer."""
        self._faults: list[tuple[SmartOltFault, str, int]] = []
        self._token = token
        self._port = 0
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

    def start(self) -> None:
        """Open the port."""
        self._wire = _Wire(self._port, self)
        self._port = self._wire.server_address[1]
        threading.Thread(target=self._wire.serve_forever, args=(0.01,), name="smartolt", daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection. A second call does nothing."""
        if self._wire is not None:
            self._wire.end()
            self._wire = None

    def fail_next(self, fault: SmartOltFault, *, path: str = "", after: int = 0) -> None:
        """Apply `fault` to the next request whose path contains `path`, after so many of them."""
        self._faults.append((fault, path, after))

    def clear_faults(self) -> bool:
        """Remove the faults that no request has met; return whether there were any."""
        left, self._faults = bool(self._faults), []
        return left

    def pick_fault(self, path: str) -> SmartOltFault | None:
        """Record a request; return its fault."""
        for nth, (fault, part, after) in enumerate(self._faults):
            if part in path:
                if after == 0:
                    del self._faults[nth]
                    return fault
                self._faults[nth] = (fault, part, after - 1)
        return None

    def accepts(self, token: str | None) -> bool:
        """Return whether the token is that of the account."""
        return token == self._token


class _Wire(LoopbackServer):
    """The listening socket and its connections."""

    def __init__(self, port: int, owner: SmartOltServer) -> None:
        super().__init__(port, _Handler)
        self.owner = owner


class _Handler(BaseHTTPRequestHandler):
    """A connection, which handles its requests one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one segment
    server: _Wire

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        owner = self.server.owner
        owner.requests.append(f"{self.command} {self.path.removeprefix('/api/')}")
        if not owner.accepts(self.headers.get("X-Token")):
            self._send(401, {"status": False, "error": "Invalid API key"})
            return
        time.sleep(owner.seconds)
        fault = owner.pick_fault(self.path)
        if fault in _STATUSES:
            more = {"Retry-After": "600"} if fault is SmartOltFault.TOO_MANY_CALLS else {}
            self._send(_STATUSES[fault], {"status": False, "error": "Try again later"}, more)
        elif fault is SmartOltFault.REFUSED:
            self._send(200, {"status": False, "error": "The OLT refused the\x1b[31m command"})
        elif fault is SmartOltFault.LIMIT_REACHED:
            self._send(200, {"status": False, "error": "API rate limit reached"})
        elif fault is SmartOltFault.PORT_FULL:
            self._send(200, {"status": False, "error": "ONU limit reached on this PON port"})
        elif fault is SmartOltFault.OTHER_SERVER:
            self._send(200, "<html><body>Welcome</body></html>")
        else:
            self._answer(dict(parse_qsl(body)), lost=fault is SmartOltFault.REPLY_LOST)

    do_GET = do_POST = _serve

    def _answer(self, form: dict[str, str], *, lost: bool) -> None:
        try:
            answer = self.server.owner.account.answer(self.command, self.path, form)
        except RefusedError as refusal:
            answer = {"status": False, "error": str(refusal)}
        if lost:
            self.server.hang_up(self.connection)
            self.close_connection = True
        elif answer is None:
            self._send(404, "<html><body>404</body></html>")
        else:
            self._send(200, answer)

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        page = isinstance(answer, str)
        content = answer.encode() if page else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: tests read `requests`."""
