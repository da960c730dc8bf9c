"""Requests of web pages of other origins (CORS, the Fetch standard): only those of the settings, none by default."""

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from lastmile.api.problems import ProblemError
from lastmile.settings import Settings

__all__ = ["cross_origin"]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SENT = ("Authorization", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "Prefer", "X-Request-ID")
SHOWN = (
    *("ETag", "Idempotent-Replay", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Retry-After"),
    *("WWW-Authenticate", "X-Request-ID"),
)
"""The headers of answers that a page may read."""


def cross_origin(settings: Settings) -> list[Middleware]:
    """Return the middleware for the origins of the settings; none without origins."""
    if settings.api_cors_origins is None:
        return []
    origins = [origin.strip() for origin in settings.api_cors_origins.split(",")]
    return [Middleware(_Cors, allow_origins=origins, allow_methods=METHODS, allow_headers=SENT, expose_headers=SHOWN)]


class _Cors(CORSMiddleware):
    """Answers a browser that asks for leave."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return Response(status_code=204, headers=dict(answer.headers))
        words = "LASTMILE_API_CORS_ORIGINS, or the methods and headers of this API, do not allow the request."
        raise ProblemError("cross-origin", words)
