"""What happens to every request: an id, a limit on its body, one line in the log, one observation in the metrics."""

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lastmile.api.problem_handlers import answer_failure
from lastmile.api.problems import ProblemError
from lastmile.telemetry.metrics import API_REQUESTS

__all__ = ["LARGEST_BODY", "RequestMiddleware"]

LARGEST_BODY = 1 << 20
"""Bytes."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("lastmile.api")


class RequestMiddleware:
    """The outermost layer of the application. No failure passes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers_out = MutableHeaders(scope=message)
                headers_out["X-Request-ID"] = request_id
                headers_out.update(scope["state"].get("headers", {}))
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if int(headers.get("content-length", "0")) > LARGEST_BODY:
                    raise _too_large()
                await self._app(scope, _limited(receive), answer)
            except Exception as failure:
                if status:  # part of the answer has been sent: the connection ends without its end
                    log.error("api.fault", exc_info=failure)
                    raise
                await answer_failure(failure, request_id)(scope, receive, answer)
            finally:
                _observe(scope, status, time.perf_counter() - started)


def _too_large() -> ProblemError:
    return ProblemError("too-large", f"The body has more than {LARGEST_BODY} bytes.")


def _limited(receive: Receive) -> Receive:
    """Return `receive` with the limit also for bodies that do not announce their length."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LARGEST_BODY:
            raise HTTPException(413)  # the framework turns any other error of a body into a status of its own
        return message

    return limited


def _observe(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "other")
    API_REQUESTS.labels(scope["method"] if route != "other" else "other", route, status).observe(seconds)
    log.info("api.request", method=scope["method"], route=route, status=status, seconds=round(seconds, 4))
