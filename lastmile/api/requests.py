"""What happens to every request: an id, limits of its size and time, one line in the log, one metric observation."""

import asyncio
import re
import time
import uuid
from dataclasses import dataclass

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lastmile.api.preferences import LONGEST_SECONDS
from lastmile.api.problem_handlers import answer_failure
from lastmile.api.problems import ProblemError
from lastmile.telemetry.metrics import API_REQUESTS

__all__ = ["LARGEST_BODY", "TIME_LIMITS", "RequestMiddleware", "TimeLimits"]

LARGEST_BODY = 1 << 20
"""Bytes."""

CLIENT_GONE = 499
"""The status in the log and the metrics of a request whose client went away before its body was complete (as nginx)."""

OTHER = "other"
"""The route and its class of a path that is none of the API's."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("lastmile.api")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long a request may take, in seconds."""

    answer: float = 30
    """Until the answer begins. `Prefer: wait` adds the longest time that a caller can wait for an order."""
    body: float = 30
    """Until the whole body has arrived."""


TIME_LIMITS = TimeLimits()
"""The limits of an API process."""


class RequestMiddleware:
    """The outermost layer of the application. No failure passes it."""

    def __init__(self, app: ASGIApp, limits: TimeLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id
        status, kind = 0, ""
        patience = self._limits.answer + (LONGEST_SECONDS if "prefer" in headers else 0)
        clock = asyncio.timeout(patience)

        async def answer(message: Message) -> None:
            nonlocal status, kind
            if message["type"] == "http.response.start":
                status = message["status"]
                headers_out = MutableHeaders(scope=message)
                headers_out["X-Request-ID"] = request_id
                headers_out.update(scope["state"].get("headers", {}))
                kind = _answer_kind(headers_out)
            await send(message)

        async def answer_in_time(message: Message) -> None:
            if not clock.expired():
                clock.reschedule(None)  # the answer has begun: a stream of events may last
            await answer(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                # A statement that runs when the time is over is cancelled in PostgreSQL with the request.
                async with clock:
                    if int(headers.get("content-length", "0")) > LARGEST_BODY:
                        raise _too_large()
                    await self._app(scope, _limited(receive, self._limits.body), answer_in_time)
            except ClientDisconnect:
                status = CLIENT_GONE
            except Exception as failure:
                if status:  # part of the answer has been sent: the connection ends without its end
                    log.error("api.fault", exc_info=failure)
                    raise
                if clock.expired():
                    failure = ProblemError("timeout", f"The request was given up after {patience:g} seconds.")
                await answer_failure(failure, request_id)(scope, receive, answer)
            finally:
                _observe(scope, status, kind, time.perf_counter() - started)


def _too_large() -> ProblemError:
    return ProblemError("too-large", f"The body has more than {LARGEST_BODY} bytes.")


def _limited(receive: Receive, seconds: float) -> Receive:
    """Return `receive` with the limits of the body, which need not announce its length."""
    size, complete = 0, False
    end = asyncio.get_running_loop().time() + seconds

    async def limited() -> Message:
        nonlocal size, complete
        if complete:  # what can still arrive is the end of the connection
            return await receive()
        try:
            async with asyncio.timeout_at(end):
                message = await receive()
        except TimeoutError:
            # The framework turns any other error of a body into a status of its own.
            late = ProblemError("request-timeout", f"The body did not arrive within {seconds:g} seconds.")
            raise HTTPException(408) from late
        complete = not message.get("more_body", False)
        size += len(message.get("body", b""))
        if size > LARGEST_BODY:
            raise HTTPException(413) from _too_large()
        return message

    return limited


def _observe(scope: Scope, status: int, kind: str, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", OTHER)
    method = scope["method"] if route != OTHER else OTHER
    API_REQUESTS.labels(method, route, status, _route_class(scope, kind)).observe(seconds)
    log.info("api.request", method=scope["method"], route=route, status=status, seconds=round(seconds, 4))


def _answer_kind(headers: Headers) -> str:
    """Return `wait` or `stream` for an answer that takes long by design."""
    if "wait" in headers.get("preference-applied", ""):
        return "wait"
    return "stream" if headers.get("content-type", "").startswith("text/event-stream") else ""


def _route_class(scope: Scope, kind: str) -> str:
    if "route" not in scope:
        return OTHER
    if not set(getattr(scope["route"], "tags", ())) - {"health"}:
        return "page"
    return kind or ("read" if scope["method"] in ("GET", "HEAD") else "write")
