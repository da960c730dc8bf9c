"""The HTTP port of a process, and the worker's pages: `/metrics`, `/healthz` and `/readyz`.

`/metrics` shows everything in `prometheus_client.REGISTRY`: metrics, and collectors, which run at each scrape.
"""

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from lastmile.telemetry.readiness import Report

__all__ = ["Application", "serve", "worker_pages"]

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application (PEP 3333)."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing: a scrape every few seconds would fill the log."""


def worker_pages(healthy: Callable[[], bool], readiness: Callable[[], Report]) -> Application:
    """Return the application with the worker's pages.

    - `/healthz` (liveness) is 503 unless the worker is `healthy`.
    - `/readyz` is 503 unless every check of `readiness` is good. Its JSON has the finding of each check.
    - Every other path is `/metrics`.
    """
    metrics = make_wsgi_app()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/healthz":
                good = healthy()
                kind, body = "text/plain", "ok" if good else "stopping"
            case "/readyz":
                report = readiness()
                good = report.ready
                kind, body = "application/json", json.dumps({"ready": good, **report.findings})
            case _:
                page: Iterable[bytes] = metrics(environ, start_response)
                return page
        start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", kind)])
        return [f"{body}\n".encode()]

    return application


def serve(host: str, port: int, application: Application) -> WSGIServer:
    """Serve the application in a thread until `shutdown`.

    Raises:
        OSError: the address or the port cannot be used.
    """
    server = make_server(host, port, application, _Server, _QuietHandler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
