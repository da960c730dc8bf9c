"""The HTTP protocol of the server: problems in place of its own answers, and bounds on slow clients."""

import asyncio
import uuid

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lastmile.api.problems import ProblemError, problem_response
from lastmile.telemetry.metrics import API_REQUESTS

__all__ = ["KEEP_ALIVE_SECONDS", "HttpProtocol"]

KEEP_ALIVE_SECONDS = 75
"""How long a connection stays open without a request: longer than load balancers keep theirs."""
LARGEST_HEAD = 64 * 1024
"""Bytes of the headers and the address of a request. The parser has no limit of its own."""

log = structlog.get_logger("lastmile.api")


class HttpProtocol(HttpToolsProtocol):
    """One connection. The application sees only requests whose headers are complete."""

    head_seconds: float = 15
    """The longest time until the headers of a request have arrived, from the connection or the request's first byte."""
    read_seconds: float = 30
    """The longest time for which a client may read nothing while an answer waits for it."""

    _head: asyncio.TimerHandle | None = None
    """Runs while the headers of a request are awaited."""
    _unread: asyncio.TimerHandle | None = None
    """Runs while the client does not read."""
    _rest: asyncio.TimerHandle | None = None
    """Runs while the rest of a body arrives whose request has been answered."""
    _head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._unread, self._rest):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_size += len(data)
        super().data_received(data)
        if self._head is not None and self._head_size > LARGEST_HEAD:
            self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > LARGEST_HEAD:
            self._refuse_head()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_response_complete(self) -> None:
        # A client reads the answer when it has sent its body: to close the connection would lose the answer.
        if self.cycle.more_body and not self.transport.is_closing():
            self._rest = self.loop.call_later(self.read_seconds, self.transport.abort)
        super().on_response_complete()

    def on_message_complete(self) -> None:
        self._head_size = 0
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if not self.transport.is_closing():
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(ProblemError("malformed", "The request is no HTTP/1.1, or has an invalid header or address."))

    def _await_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
        self._head = self.loop.call_later(self.head_seconds, self._give_up)

    def _give_up(self) -> None:
        if self._head_size == 0:
            self.transport.close()
            return
        late = f"The headers of the request did not arrive within {self.head_seconds:g} seconds."
        self._refuse(ProblemError("request-timeout", late))

    def _refuse_head(self) -> None:
        self._refuse(ProblemError("headers-too-large", f"The headers have more than {LARGEST_HEAD} bytes."))

    def _refuse(self, problem: ProblemError) -> None:
        """Answer with the problem, and close the connection, whose state is not known any more."""
        if self.transport.is_closing():
            return
        if self.pipeline or (self.cycle and self.cycle.response_started and not self.cycle.response_complete):
            self.transport.close()  # another answer is being written
            return
        request_id = str(uuid.uuid4())
        answer = problem_response(problem, request_id)
        answer.headers["X-Request-ID"] = request_id
        answer.headers["Connection"] = "close"
        head = b"".join(b"%s: %s\r\n" % header for header in answer.raw_headers)
        self.transport.write(b"HTTP/1.1 %d \r\n%s\r\n%s" % (answer.status_code, head, answer.body))
        self.transport.close()
        API_REQUESTS.labels("other", "other", answer.status_code, "other").observe(0)
        log.info("api.request", method="other", route="other", status=answer.status_code, request_id=request_id)
