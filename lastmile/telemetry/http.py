"""A process's HTTP port, and what the worker serves on its own: `/metrics`, `/healthz` and `/readyz`.

What else is to be on `/metrics` registers itself with `prometheus_client.REGISTRY`: as a metric, or as a collector,
which is asked at each scrape.
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
"""WSGI's (PEP 3333)."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """A scrape every few seconds is not news."""


def worker_pages(healthy: Callable[[], bool], readiness: Callable[[], Report]) -> Application:
    """The worker's pages.

    `/healthz` (liveness) is 503 where the worker is not `healthy`. `/readyz` is 503 where the report of `readiness` is
    not good, and its JSON says what each check found. Every other path is `/metrics`.
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
    """Serve in a thread until `shutdown`. Raises `OSError`."""
    server = make_server(host, port, application, _Server, _Quiet)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
