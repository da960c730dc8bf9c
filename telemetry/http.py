"""A process's HTTP port, and what the worker has on its own: `/metrics` and `/healthz`.

What else is to be on `/metrics` registers itself with `prometheus_client.REGISTRY`: as a metric, or as a collector,
which is asked at each scrape.
"""

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

__all__ = ["Application", "metrics_and_health", "serve"]

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""WSGI's (PEP 3333)."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """A scrape every few seconds is not news."""


def metrics_and_health(healthy: Callable[[], bool]) -> Application:
    """`/healthz` is 503 where the worker is not `healthy`; every other path is `/metrics`."""
    metrics = make_wsgi_app()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/healthz":
            page: Iterable[bytes] = metrics(environ, start_response)
            return page
        status, body = ("200 OK", b"ok\n") if healthy() else ("503 Service Unavailable", b"stopping\n")
        start_response(status, [("Content-Type", "text/plain")])
        return [body]

    return application


def serve(host: str, port: int, application: Application) -> WSGIServer:
    """Serve in a thread until `shutdown`. Raises `OSError`."""
    server = make_server(host, port, application, _Server, _Quiet)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
